"""Read one file of any known format into a table."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import NamedTuple

from savile.data import jsonl
from savile.data import table as csv_table
from savile.data.rows import Table
from savile.data.source import Source
from savile.errors import DataError, EnvironmentProblem, Problem


class Reading(NamedTuple):
    """How files are read: the settings of `data` that matter to a reader."""

    delimiter: str | None = None
    encoding: str = "utf-8"
    max_line: int = 16 << 20


DEFAULT = Reading()


def read_file(path: Path, name: str, reading: Reading = DEFAULT) -> Table:
    """Return all rows of a file.

    Args:
        path: where the file is.
        name: what messages call it.
        reading: delimiter, encoding and limits.

    Raises:
        DataError: naming the file, the line and, where known, the column.
    """
    source = Source(path=path, name=name, encoding=reading.encoding, max_line=reading.max_line)
    if source.kind == "parquet":
        table = _parquet(source)
    elif source.kind == "jsonl":
        table = jsonl.read_lines(source)
    elif source.kind == "json":
        table = jsonl.read_array(source)
    else:
        table = csv_table.read(source, reading.delimiter)
    if not table.rows:
        raise DataError(Problem(what=f"{name} is empty (0 rows)"))
    return table


def _parquet(source: Source) -> Table:
    """Load the Parquet reader, and with it pyarrow, only now: it takes 0.3 s to import."""
    try:
        reader = importlib.import_module("savile.data.parquet")
    except ImportError as error:
        what = "reading Parquet needs pyarrow"
        fix = "pip install pyarrow"
        raise EnvironmentProblem(Problem(where=source.name, what=what, fix=fix)) from error
    table: Table = reader.read(source)
    return table
