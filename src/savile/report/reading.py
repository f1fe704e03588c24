"""The board document as reports read it: typed, tolerant of what is missing, harmless to print.

A board may be older, partial, or edited by hand, so nothing here trusts it: a value of the wrong
type is None and is shown as an en dash; control characters and characters that reorder text are
escaped, because technique names, messages and answers come from data and from models.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

MISSING = "\N{EN DASH}"
INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
JOINERS = frozenset("\u200c\u200d")
"""Format characters that scripts and emoji need."""
LARGEST = 1e30
"""A larger number is a damaged document, and differences of such numbers overflow."""


def clean(value: object) -> str:
    r"""Return text with control, bidirectional and unassigned characters shown like `\x1b`."""
    return "".join(
        c
        if c in JOINERS or c == "\n" or unicodedata.category(c) not in INVISIBLE
        else " "
        if c == "\t"
        else c.encode("unicode_escape", "backslashreplace").decode("ascii")
        for c in str(value)
    )


def line(value: object) -> str:
    """Return `clean` text on one line."""
    return " ".join(clean(value).split("\n"))


def number(value: object) -> float | None:
    """Return a number of a size that can be measured, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) and abs(value) <= LARGEST else None
    except OverflowError:
        return None


def mapping(value: object) -> Mapping[str, Any]:
    """Return a mapping, an empty one for anything else."""
    return {str(k): v for k, v in value.items()} if isinstance(value, Mapping) else {}


def sequence(value: object) -> Sequence[Any]:
    """Return a list, an empty one for anything else."""
    return tuple(value) if isinstance(value, list | tuple) else ()


class Value(NamedTuple):
    """A value with its 95 % limits, None where nobody knows them."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the board."""

    values: Mapping[str, Any]

    def __getitem__(self, name: str) -> float | None:
        return number(self.values.get(name))

    def text(self, name: str) -> str:
        """Return a text field on one line, empty when missing."""
        value = self.values.get(name)
        return "" if value is None else line(value)

    @property
    def name(self) -> str:
        """The technique."""
        return self.text("technique") or MISSING

    @property
    def kind(self) -> str:
        """`baseline`, `prompt` or `tuned`."""
        kind = self.text("kind")
        return kind if kind in ("baseline", "prompt", "tuned") else "prompt"

    @property
    def remote(self) -> bool:
        """Whether a model behind an API answered."""
        return self.values.get("remote") is True

    @property
    def beside(self) -> Mapping[str, Value]:
        """What was measured beside the score, by name."""
        found = {
            name: mapping(value) for name, value in mapping(self.values.get("compared")).items()
        }
        found |= {} if self["votes"] is None else {"votes": {"value": self["votes"]}}
        return {
            name: Value(value, number(told.get("low")), number(told.get("high")))
            for name, told in found.items()
            if (value := number(told.get("value"))) is not None
        }

    @property
    def scored(self) -> bool:
        """Whether the row has a score."""
        return self.text("status") in ("ok", "") and self["score"] is not None

    @property
    def low(self) -> float:
        """Lower limit of the score; the score itself when there is no interval."""
        return self["low"] if self["low"] is not None else self["score"] or 0.0

    @property
    def high(self) -> float:
        """Upper limit of the score; the score itself when there is no interval."""
        return self["high"] if self["high"] is not None else self["score"] or 0.0


@dataclass(frozen=True, kw_only=True)
class Board:
    """The whole document."""

    document: Mapping[str, Any]
    rows: tuple[Row, ...]
    """Rows with a score, best first; of equal ones the winner and its tied first."""
    others: tuple[Row, ...]
    """Rows without one."""

    def text(self, name: str) -> str:
        """Return a text field of the document on one line."""
        value = self.document.get(name)
        return MISSING if value is None else line(value)

    @property
    def metric(self) -> str:
        """The metric's name, however it is written."""
        value = self.document.get("metric")
        return (
            line(next(iter(value), MISSING)) if isinstance(value, Mapping) else self.text("metric")
        )

    @property
    def verdict(self) -> Mapping[str, Any]:
        """The verdict's fields."""
        return mapping(self.document.get("verdict"))

    @property
    def verdict_lines(self) -> list[str]:
        """The verdict's sentences; the first is the headline."""
        said = clean(self.verdict.get("text") or "").split("\n")
        return [s for s in said if s.strip()] or ["No verdict was written."]

    @property
    def leading(self) -> tuple[str, ...]:
        """Winner and tied techniques."""
        winner = self.verdict.get("winner")
        names = [winner, *sequence(self.verdict.get("tied_with"))] if winner else []
        return tuple(line(name) for name in names)

    def mark(self, row: Row) -> str:
        """Return in a word or two what a row is on this board; empty for most."""
        words = ["API"] if row.remote else []
        if row.name in self.leading:
            words.insert(0, "highest" if row.name == self.leading[0] else "tied")
        return ", ".join(words) or ("baseline" if row.kind == "baseline" else "")

    @property
    def notes(self) -> list[str]:
        """What to know about scores; techniques with the same note share a line."""
        said: dict[str, list[str]] = {}
        for row in self.rows:
            if note := row.text("reason"):
                said.setdefault(note, []).append(row.name)
        return [f"{', '.join(names)}: {note}" for note, names in said.items()]

    @property
    def subtitle(self) -> str:
        """What was measured, on one line."""
        n, seeds = number(self.document.get("n_test")), number(self.document.get("seeds"))
        parts = [f"{self.metric} on {count(n)} test rows", f"base {self.text('base')}"]
        if seeds:
            parts.append("1 seed" if seeds == 1 else f"{count(seeds)} seeds")
        budget = self.document.get("budget")
        shown = number(budget.get("train_examples")) if isinstance(budget, Mapping) else None
        if shown:
            parts.append(f"budget {count(shown)} training examples a technique")
        return " · ".join(parts)

    @property
    def judge(self) -> list[str]:
        """What a judge says about the answers, and what its figures say about the judge."""
        said = clean(mapping(self.document.get("judge")).get("text") or "").split("\n")
        return [s for s in said if s.strip()]

    @property
    def limits(self) -> list[str]:
        """What the board does not say."""
        openings = number(self.document.get("test_openings")) or 0
        said = [
            "Intervals and p-values speak about new rows of the same kind as the test rows; they "
            "do not see a change of topic, language or time, nor test rows the base model may have "
            "read before.",
        ]
        if openings > 1:
            said.insert(0, f"The test set was used {count(openings)} times: scores flatter.")
        return said


def read(document: Mapping[str, Any]) -> Board:
    """Return the document in a shape that reports can rely on."""
    rows = [Row(values=mapping(row)) for row in sequence(document.get("board"))]
    others = tuple(r for r in rows if not r.scored)
    board = Board(document=document, rows=tuple(r for r in rows if r.scored), others=others)
    leading = board.leading

    def rank(row: Row) -> tuple[float, int]:
        place = leading.index(row.name) if row.name in leading else len(leading)
        return -(row["score"] or 0.0), place

    return replace(board, rows=tuple(sorted(board.rows, key=rank)))


def score(value: float | None, top: float = 1.0) -> str:
    """Return a score: three decimals up to 1, one decimal for scores up to 100."""
    return MISSING if value is None else f"{value:.3f}" if top <= 1 else f"{value:.1f}"


def between(row: Row, top: float) -> str:
    """Return a row's score with its interval: `0.907 [0.873, 0.935]`."""
    return f"{score(row['score'], top)} [{score(row['low'], top)}, {score(row['high'], top)}]"


def top_of(rows: Sequence[Row]) -> float:
    """Return 1 or 100, whichever scale the scores are on."""
    return 100.0 if any(r.high > 1 for r in rows) else 1.0


def seconds(value: float | None) -> str:
    """Return a duration: `840 ms`, `12.3 s`, `6.9 min`, `2.1 h`."""
    if value is None:
        return MISSING
    if value < 0.9995:
        return f"{value * 1000:.{0 if value >= 0.01 or value == 0 else 1}f} ms"
    if value < 99.95:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 5997 else f"{value / 3600:,.1f} h"


def size(value: float | None) -> str:
    """Return bytes with a unit: `0`, `12 kB`, `1.5 GB`."""
    if value is None:
        return MISSING
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.3g} {unit}" if value else "0"
        value /= 1000
    return f"{value:,.3g} TB"


def count(value: float | None) -> str:
    """Return a number of things: `1,234`, `12.3k`, `1.5M`."""
    if value is None:
        return MISSING
    if value < 9999.5:
        return f"{value:,.0f}"
    for unit in ("k", "M", "G"):
        value /= 1000
        if value < 999.5:
            return f"{value:.3g}{unit}"
    return f"{value:,.0f}G"


def share(value: float | None) -> str:
    """Return a share in percent: `0.12 %`, `100 %`."""
    return MISSING if value is None else f"{100 * value:.{3 if value >= 0.995 else 2}g} %"


def usd(value: float | None) -> str:
    """Return money: `$0.0021`, `$12.30`, `$1,200`."""
    if value is None:
        return MISSING
    if value >= 1000:
        return f"${value:,.0f}"
    return f"${value:.2f}" if value >= 0.1 or value == 0 else f"${value:.2g}"
