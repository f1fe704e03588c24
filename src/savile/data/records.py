"""Tables to records: question, answers, steps and group of every usable row.

A row without question or answer is set aside with its reason; more than 1 % of them is an error,
for then the file is not what the spec says it is.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from savile.data.dataset import Rejected
from savile.data.rows import Faults, Number, Row, Table, shown
from savile.data.shapes import BadCell, Fields, Shape
from savile.data.text import fold
from savile.errors import DataError, Problem
from savile.spec.data import DataSection

MOST_DROPPED = 0.01
"""Share of unusable rows above which loading stops."""
SPECIAL = ("<|", "</s>", "<s>", "[INST]", "<eos>", "<bos>", "<pad>", "<start_of_turn>")
"""Marks that look like control tokens; they are encoded as plain text and counted."""


class Record(NamedTuple):
    """One usable row."""

    input: str
    outputs: tuple[str, ...]
    rationale: str | None
    group: str | None
    file: str
    line: int
    key: str
    """The folded input: equal for equal questions."""
    rejected: str | None = None
    """A worse answer, when the row is a preference pair."""

    @property
    def where(self) -> str:
        """`file:line`."""
        return f"{self.file}:{self.line}"


@dataclass(kw_only=True)
class Ledger:
    """Counts the fate of every row."""

    n_in: Counter[str] = field(default_factory=Counter)
    """Rows read, by file."""
    rejected: list[Rejected] = field(default_factory=list)
    unpaired: list[Rejected] = field(default_factory=list)
    """Rows that are used, but not as the preference pair they were written as."""

    def reject(self, file: str, line: int, reason: str, content: Any, detail: str = "") -> None:
        """Set one row aside."""
        self.rejected.append(_rejected(file, line, reason, content, detail))

    def drop(self, record: Record, reason: str, detail: str = "") -> None:
        """Set a record aside."""
        content = [record.input, list(record.outputs), record.rationale]
        self.reject(record.file, record.line, reason, content, detail)

    def unpair(self, record: Record, reason: str, detail: str = "") -> None:
        """Set aside that a record is a pair; the record stays a row."""
        content = [record.input, list(record.outputs), record.rejected]
        reason = f"no preference pair, though a row: {reason}"
        self.unpaired.append(_rejected(record.file, record.line, reason, content, detail))


def _rejected(file: str, line: int, reason: str, content: Any, detail: str) -> Rejected:
    raw = json.dumps(content, sort_keys=True, default=str).encode("utf-8", "surrogatepass")
    return Rejected(file, line, reason, hashlib.sha256(raw).hexdigest(), detail)


def records_of(table: Table, shape: Shape, data: DataSection, ledger: Ledger) -> list[Record]:
    """Return the usable rows of a table; raises DataError with every bad row."""
    faults = Faults()
    found: list[Record] = []
    ledger.n_in[table.name] += len(table.rows)
    empty: list[tuple[Row, str]] = []
    for row in table.rows:
        try:
            fields = shape.extract(row)
            group = _group(row, data.group_by)
        except BadCell as error:
            where = f"{table.name}:{row.line}"
            what = (
                f"row {row.line} has {error.what}" if error.what.startswith("no ") else error.what
            )
            faults.add(Problem(where=where, what=what, fix=error.fix))
            continue
        reason = _missing(fields)
        if reason:
            empty.append((row, reason))
            continue
        found.append(_record(fields, group, table.name, row.line))
    faults.raise_any()
    _check_types(table, shape, data)
    _check_ids(table, shape, data)
    _check_empty(table, empty, data)
    for row, reason in empty:
        ledger.reject(table.name, row.line, reason, row.cells)
    return found


def _record(fields: Fields, group: str | None, file: str, line: int) -> Record:
    given = fields.input or ""
    outputs = tuple(text for text in fields.outputs if text is not None)
    steps = fields.rationale if fields.rationale and fields.rationale.strip() else None
    return Record(given, outputs, steps, group, file, line, fold(given), fields.rejected)


def _group(row: Row, column: str | None) -> str | None:
    if column is None:
        return None
    if column not in row.cells:
        raise BadCell(f"no '{column}' (data.group_by); present: {', '.join(row.cells)}")
    return str(row.cells[column])


def _missing(fields: Fields) -> str | None:
    if fields.input is None or not fields.input.strip():
        return "empty input"
    if not fields.outputs or any(text is None or not text.strip() for text in fields.outputs):
        return "empty output"
    return None


def _check_empty(table: Table, empty: Sequence[tuple[Row, str]], data: DataSection) -> None:
    if len(empty) <= MOST_DROPPED * len(table.rows) or data.allow_drop:
        if len(empty) == len(table.rows):
            raise DataError(Problem(where=table.name, what="no row has an input and an output"))
        return
    faults = Faults()
    share = f"{len(empty)} of {len(table.rows)} rows ({len(empty) / len(table.rows):.1%})"
    for row, reason in empty:
        what = f"{reason}; {share} cannot be used, at most 1 % may"
        fix = "Fill them in, or set data.allow_drop: true"
        faults.add(Problem(where=f"{table.name}:{row.line}", what=what, fix=fix))
    faults.raise_any()


def _check_types(table: Table, shape: Shape, data: DataSection) -> None:
    """Refuse a column that is a number in some rows and a text in others."""
    if data.cast == "str" or not table.ragged:
        return
    for column in shape.columns:
        first: dict[str, tuple[int, Any]] = {}
        for row in table.rows:
            value = row.cells.get(column)
            kind = _kind(value)
            if kind:
                first.setdefault(kind, (row.line, value))
        if len(first) > 1:
            seen = " and ".join(
                f"{kind} in line {line} ({shown(str(value))})"
                for kind, (line, value) in first.items()
            )
            line = max(line for line, _ in first.values())
            what = f"'{column}' is {seen}"
            fix = "Write them all as texts, or set data.cast: str"
            raise DataError(Problem(where=f"{table.name}:{line}", what=what, fix=fix))


def _kind(value: Any) -> str | None:
    if isinstance(value, Number):
        return "a number"
    if isinstance(value, bool):
        return "true or false"
    return "a text" if isinstance(value, str) else None


def _check_ids(table: Table, shape: Shape, data: DataSection) -> None:
    """Refuse two rows with one `id`, unless the id is what rows are grouped by."""
    if "id" in shape.columns or data.group_by == "id":
        return
    first: dict[str, int] = {}
    faults = Faults()
    for row in table.rows:
        value = row.cells.get("id")
        if not isinstance(value, str) or not value.strip():
            continue
        if value in first:
            what = f"id {shown(value)} is already the id of line {first[value]}"
            fix = "Make ids unique, or set data.group_by: id when rows belong together"
            faults.add(Problem(where=f"{table.name}:{row.line}", what=what, fix=fix))
        first.setdefault(value, row.line)
    faults.raise_any()
