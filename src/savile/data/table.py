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
    for line, fields in _records(source, delimiter):
        if header is None:
            header = _header(source, line, fields, delimiter)
        elif len(fields) != len(header):
            what = f"{len(fields)} field{'s' * (len(fields) != 1)}, header has {len(header)}"
            context = caret(delimiter.join(fields), 1).split("\n", maxsplit=1)[0]
            fix = "Quote cells that hold the delimiter" if len(fields) > len(header) else ""
            where = f"{source.name}:{line}"
            faults.add(Problem(where=where, what=what, fix=fix, context=context))
        else:
            table.rows.append(Row(dict(zip(header, fields, strict=True)), line))
    faults.raise_any()
    table.sha256 = source.sha256
    return table


def _records(source: Source, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line of the row's start, cells), skipping blank lines."""
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
            yield feed.row_lines[0].number, fields


def _quote_error(source: Source, lines: list[Line], delimiter: str, message: str) -> DataError:
    """Return the error of a row whose quotes do not match, at the quote that matters."""
    line, column = _open_quote(lines, delimiter)
    where = f"{source.name}:{line.number}:{column}"
    if "expected after" in message:
        line = lines[-1]
        column = _stray_quote(line.text, delimiter)
        where = f"{source.name}:{line.number}:{column}"
        what = "text after a closing quote"
        fix = 'Write a quote inside a quoted cell twice: ""'
    elif "field larger" in message:
        what, fix = "a cell is longer than data.max_line", "Is a quote never closed?"
    else:
        what, fix = "a quote opens here and never closes", 'Close it, or write it twice: ""'
    context = caret(line.text, column)
    return DataError(Problem(where=where, what=what, fix=fix, context=context))


def _open_quote(lines: list[Line], delimiter: str) -> tuple[Line, int]:
    """Return where the last quoted cell of these lines opened."""
    opened = (lines[0], 1)
    inside = False
    for line in lines:
        fresh = not inside
        for column, letter in enumerate(line.text, start=1):
            if letter == '"' and inside:
                inside = False
            elif letter == '"' and (fresh or line.text[column - 2 : column - 1] == '"'):
                if fresh:
                    opened = (line, column)
                inside = True
            fresh = not inside and letter == delimiter
    return opened


def _stray_quote(text: str, delimiter: str) -> int:
    for column in range(1, len(text)):
        closing = (
            text[column - 1] == '"' and column > 1 and text[column - 2] not in (delimiter, '"')
        )
        if closing and text[column] not in (delimiter, '"', "\n"):
            return column + 1
    return 1


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
