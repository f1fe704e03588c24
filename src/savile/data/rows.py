"""What a reader returns: rows of cells kept as they were written, and problems gathered up.

A cell keeps the source text: `01`, `1e5`, `NA`, `TRUE` are never turned into something else. A JSON
number is a `Number`, a text that remembers that it was written without quotes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, NamedTuple

from savile.errors import SHOWN, DataError, Problem

CLIP = 76
"""Characters of a line that are shown."""


class Number(str):
    """A JSON number as its source text."""

    __slots__ = ()


class Row(NamedTuple):
    """One row and where it came from."""

    cells: dict[str, Any]
    line: int


@dataclass(kw_only=True)
class Table:
    """All rows of one file."""

    name: str
    """The file as the spec names it."""
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sha256: str = ""
    ragged: bool = False
    """Whether rows may lack columns (JSON)."""

    @property
    def columns(self) -> list[str]:
        """Every column name, in order of first appearance."""
        return list(dict.fromkeys(key for row in self.rows for key in row.cells))


class Faults:
    """Gathers problems of rows: the first `SHOWN` are kept, all are counted."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.total = 0

    def add(self, problem: Problem) -> None:
        """Count a problem and keep it when it will be shown."""
        self.total += 1
        if len(self.problems) < SHOWN:
            self.problems.append(problem)

    def raise_any(self) -> None:
        """Raise a DataError when there are problems."""
        if self.problems:
            raise DataError(self.problems, total=self.total)


def printable(text: str) -> str:
    """Return `text` with control characters as middle dots: nothing a terminal would obey."""
    return "".join(c if c.isprintable() else "·" for c in text)


def shown(text: str, limit: int = 60) -> str:
    """Return a value quoted and clipped for a message."""
    return repr(printable(text if len(text) <= limit else text[: limit - 1] + "…"))


def caret(line: str, column: int) -> str:
    """Return the clipped line and, under it, a caret at `column` (from 1)."""
    start = max(0, column - 1 - CLIP // 2)
    piece = line[start : start + CLIP]
    before = "…" if start else ""
    after = "…" if start + CLIP < len(line) else ""
    at = column - 1 - start + len(before)
    return f"  {before}{printable(piece)}{after}\n  {' ' * at}^"


def hint(name: str, choices: Iterable[str]) -> str:
    """Return `, did you mean 'x'?` for the closest choice, or an empty text."""
    by_folded = {choice.casefold(): choice for choice in choices}
    close = get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return f", did you mean '{by_folded[close[0]]}'?" if close else ""
