"""CSV and TSV: cells verbatim, quotes and field counts checked, every fault with its line.

`csv` of the standard library parses in strict mode; `NA`, `01` and `1e5` stay what they are.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator

from savile.data.rows import Faults, Row, Table, caret, shown
from savile.data.source import Line, Source
from savile.errors import DataError, Problem

OTHER_DELIMITERS = {";": "';'", "\t": "'tab'", "|": "'|'"}


class _Feed:
    """Gives lines to the csv reader and remembers those of the row being read."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.row_lines: list[Line] = []

    def __iter__(self) -> Iterator[str]:
        for line in self.source.lines():
            self.row_lines.append(line)
            yield line.text + "\n"


def read(source: Source, delimiter: str | None) -> Table:
    """Read a table whose first row holds the column names."""
    delimiter = delimiter or ("\t" if source.kind == "tsv" else ",")
    table = Table(name=source.name, notes=source.notes)
    faults = Faults()
    header: list[str] | None = None
    for line, last, fields in _records(source, delimiter):
        if header is None:
            header = _header(source, line, fields, delimiter)
        elif len(fields) != len(header):
            what = f"{len(fields)} field{'s' * (len(fields) != 1)}, header has {len(header)}"
            context = caret(delimiter.join(fields), 1).split("\n", maxsplit=1)[0]
            fix = "Quote cells that hold the delimiter" if len(fields) > len(header) else ""
            if last > line:
                fix = f"One of its cells goes on to line {last}: is a quote never closed?"
            where = f"{source.name}:{line}"
            faults.add(Problem(where=where, what=what, fix=fix, context=context))
        else:
            table.rows.append(Row(dict(zip(header, fields, strict=True)), line))
    faults.raise_any()
    table.sha256 = source.sha256
    return table


def _records(source: Source, delimiter: str) -> Iterator[tuple[int, int, list[str]]]:
    """Yield (first line of the row, last line, cells), skipping blank lines."""
    feed = _Feed(source)
    csv.field_size_limit(source.max_line)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        feed.row_lines.clear()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _quote_error(source, feed.row_lines, delimiter, str(error)) from error
        if fields and (len(fields) > 1 or fields[0].strip()):
            yield feed.row_lines[0].number, feed.row_lines[-1].number, fields


def _quote_error(source: Source, lines: list[Line], delimiter: str, message: str) -> DataError:
    """Return the error of a row whose quotes do not match, at the quote that matters."""
    (line, column), stray = _quotes(lines, delimiter)
    fix = 'Close it, or write it twice: ""'
    if "field larger" in message:
        what, fix = "a cell is longer than data.max_line", "Is a quote never closed?"
    elif stray is None:
        what = "a quote opens here and never closes"
    elif stray[0].number > line.number:
        what = (
            "a quote opens here and its cell takes in the lines that follow, up to "
            f"line {stray[0].number}, where text stands after the next quote"
        )
    else:
        line, column = stray
        what, fix = "text after a closing quote", 'Write a quote inside a quoted cell twice: ""'
    where = f"{source.name}:{line.number}:{column}"
    return DataError(Problem(where=where, what=what, fix=fix, context=caret(line.text, column)))


_Place = tuple[Line, int]
"""A line and a column of it, from 1."""


def _quotes(lines: list[Line], delimiter: str) -> tuple[_Place, _Place | None]:
    """Return where the last quoted cell of a row opened, and the first text after a closed one."""
    opened = (lines[0], 1)
    inside = False
    for line in lines:
        before = '"' if inside else delimiter  # what a quote means hangs on the letter before it
        closed = False
        for column, letter in enumerate(line.text, start=1):
            if inside:
                inside, closed = letter != '"', letter == '"'
            elif closed and letter == '"':
                inside, closed = True, False
            elif closed and letter != delimiter:
                return opened, (line, column)
            else:
                closed = False
                if letter == '"' and before == delimiter:
                    inside, opened = True, (line, column)
            before = letter
    return opened, None


def _header(source: Source, line: int, fields: list[str], delimiter: str) -> list[str]:
    where = f"{source.name}:{line}"
    names = [name.strip() for name in fields]
    if len(names) == 1:
        for other, written in OTHER_DELIMITERS.items():
            if other in names[0] and other != delimiter:
                what = f"1 column {shown(names[0])}; delimiter {written}?"
                fix = f"Set data.delimiter: {written}"
                raise DataError(Problem(where=where, what=what, fix=fix))
    for index, name in enumerate(names):
        if not name:
            what = f"column {index + 1} of the header has no name"
            raise DataError(Problem(where=where, what=what, fix="Give every column a name"))
        if name in names[:index]:
            what = f"column {shown(name)} occurs twice in the header"
            raise DataError(Problem(where=where, what=what, fix="Rename one of them"))
    return names
