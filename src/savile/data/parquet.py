"""Parquet files through pyarrow; loaded only when a file ends in .parquet."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from savile.data.rows import Number, Row, Table
from savile.data.source import Source


def read(source: Source) -> Table:
    """Read all rows; the row number stands for the line."""
    table = Table(name=source.name, notes=source.notes)
    for _ in source.blocks():
        pass  # one pass over the bytes, for the hash and the checks of the source
    try:
        with pq.ParquetFile(source.path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=1024):
                for cells in batch.to_pylist():
                    number += 1
                    table.rows.append(Row({k: _cell(v) for k, v in cells.items()}, number))
    except (pa.ArrowException, OSError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise source.error(f"not readable as Parquet: {said}") from error
    table.sha256 = source.sha256
    return table


def _cell(value: Any) -> Any:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and math.isnan(value):
        return None  # how a missing number is written from a data frame
    if isinstance(value, (int, float)):
        return Number(repr(value))
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, list):
        return [_cell(item) for item in value]
    if isinstance(value, dict):
        return {key: _cell(item) for key, item in value.items()}
    return str(value)
