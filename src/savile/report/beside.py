"""What stands beside the score: other metrics, and how a row differs from its start or its teacher.

A board row carries such values in `compared`, each with limits where they are known; this says what
each is called, how it is shown and what it means. A name that is not listed is another metric's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from savile.report import reading
from savile.report.reading import MISSING, Board, Row

Form = Callable[[float], str]
NARROW: Final = "\N{NARROW NO-BREAK SPACE}"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How a value is called and written."""

    head: str
    form: Form
    meaning: str


def share(value: float) -> str:
    """Return a share in whole percent."""
    return f"{100 * value:.0f}{NARROW}%"


def plain(value: float) -> str:
    """Return a number with three decimals, fewer for large ones."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def signed(value: float) -> str:
    """Return a change."""
    return f"{value:+.3f}" if abs(value) < 10 else f"{value:+.1f}"


def times(value: float) -> str:
    """Return a ratio."""
    return f"{value:.2f}\N{MULTIPLICATION SIGN}"


def _kind(head: str, form: Form, meaning: str) -> Kind:
    return Kind(head=head, form=form, meaning=meaning)


KINDS: Final[Mapping[str, Kind]] = {
    "win_rate": _kind(
        "wins",
        share,
        "Test rows it answers better than the policy it started from, by the metric; ties half.",
    ),
    "kl": _kind(
        "KL",
        plain,
        "How far its own answers moved from the policy it started from, nats an answer.",
    ),
    "preference_accuracy": _kind(
        "pairs right",
        share,
        "Held-out pairs whose chosen answer gained more likelihood than the rejected one.",
    ),
    "reward_accuracy": _kind(
        "reward right", share, "Held-out pairs that its reward model ranks right."
    ),
    "length_accuracy": _kind(
        "longer right", share, "Held-out pairs whose chosen answer is simply the longer one."
    ),
    "chosen_moved": _kind(
        "chosen moved", signed, "Change of log p of held-out chosen answers, nats."
    ),
    "score_moved": _kind("score moved", signed, "Change of the metric on dev from its start."),
    "reward_moved": _kind(
        "reward moved", signed, "Change of the reward it was trained by, on dev, from its start."
    ),
    "votes": _kind("votes", share, "Samples of a question that gave the answer that was taken."),
    "judge": _kind("judge", share, "Pairs that the judge model decides for it; ties half."),
    "of_teacher": _kind("to teacher", signed, "Score minus the teacher's, paired by row."),
    "of_teacher_score": _kind("quality", times, "Score over the teacher's."),
    "of_teacher_latency": _kind("latency", times, "Median request over the teacher's."),
    "of_teacher_FLOPs a request": _kind("FLOPs", times, "FLOPs of a request over the teacher's."),
}


@dataclass(frozen=True, kw_only=True)
class Beside:
    """One such column."""

    key: str
    head: str
    meaning: str
    show: Callable[[Row], str]
    value: Callable[[Row], float | None]


def columns(board: Board) -> list[Beside]:
    """Return a column for everything that some row carries beside its score."""
    names = dict.fromkeys(name for row in board.rows for name in row.beside)
    return [_column(name) for name in names]


def rows(board: Board) -> list[Row]:
    """Return the rows that carry anything beside their score, in the board's order."""
    return [row for row in board.rows if row.beside]


def _column(name: str) -> Beside:
    other = Kind(head=reading.line(name), form=plain, meaning="The same answers by this metric.")
    kind = KINDS.get(name, other)
    return Beside(
        key=name,
        head=kind.head,
        meaning=kind.meaning,
        show=partial(_cell, name=name, form=kind.form),
        value=lambda row: row.beside[name].value if name in row.beside else None,
    )


def _cell(row: Row, name: str, form: Form) -> str:
    found = row.beside.get(name)
    if found is None:
        return MISSING
    if found.low is None or found.high is None:
        return form(found.value)
    return f"{form(found.value)} [{form(found.low)}, {form(found.high)}]"
