"""The columns of the page's board: what each shows, sorts by and means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from savile.report import beside, reading
from savile.report.reading import MISSING, Board, Row

Show = Callable[[float | None], str]


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of the board: its head, what a cell shows, what it is sorted by, its meaning."""

    head: str
    show: Callable[[Row], str]
    """Text, escaped later."""
    value: Callable[[Row], float | None]
    """What it is sorted by."""
    meaning: str


def columns_of(board: Board) -> list[Column]:
    """Return the score's column, and those about which some row knows something."""
    top = reading.top_of(board.rows)
    score = Column(
        head=f"{board.metric} [95 %]",
        show=lambda row: reading.between(row, top),
        value=lambda row: row["score"],
        meaning="Score on the test rows, mean over seeds; in brackets its 95 % interval.",
    )
    known = [
        column for column in COLUMNS if any(column.value(row) is not None for row in board.rows)
    ]
    return [score, *known]


def columns_beside(board: Board) -> list[Column]:
    """Return the columns of what some row carries beside its score."""
    return [
        Column(head=one.head, show=one.show, value=one.value, meaning=one.meaning)
        for one in beside.columns(board)
    ]


def _field(head: str, key: str, show: Show, meaning: str) -> Column:
    return Column(
        head=head, show=lambda row: show(row[key]), value=lambda row: row[key], meaning=meaning
    )


def _trainable(row: Row) -> str:
    if not row["trainable_parameters"]:
        return MISSING
    return f"{reading.count(row['trainable_parameters'])} ({reading.share(row['trainable_share'])})"


def _training(row: Row) -> str:
    if row.kind != "tuned":
        return MISSING
    return reading.seconds((row["search_seconds"] or 0.0) + (row["train_seconds"] or 0.0))


COLUMNS: Final = (
    _field(
        "labels",
        "labels_used",
        reading.count,
        "Labeled examples it learned from, chose its settings by, or shows in its prompt.",
    ),
    Column(
        head="trainable",
        show=_trainable,
        value=lambda row: row["trainable_parameters"],
        meaning="Parameters that training changed, and their share of the base's.",
    ),
    Column(
        head="search + train",
        show=_training,
        value=lambda row: row["train_seconds"],
        meaning="Time to search a learning rate and to train one seed.",
    ),
    _field(
        "request, median",
        "latency_p50_seconds",
        reading.seconds,
        "Time of one request, alone where the weights are here: half of them take less (p50).",
    ),
    _field(
        "request, 95 %",
        "latency_p95_seconds",
        reading.seconds,
        "Time within which 95 of 100 such requests are answered (p95).",
    ),
    _field(
        "prompt tokens",
        "prompt_tokens",
        reading.count,
        "Mean length of a prompt, virtual tokens included.",
    ),
    _field(
        "written tokens",
        "completion_tokens",
        reading.count,
        "Mean tokens that an answer takes, in all its samples.",
    ),
    _field(
        "peak memory",
        "peak_bytes",
        reading.size,
        "Highest memory of the device, or of the process without one, the base included.",
    ),
    _field(
        "artifact",
        "artifact_bytes",
        reading.size,
        "What there is to keep beside the base: trained weights, or the prompt.",
    ),
    _field(
        "unreadable answers",
        "unparseable",
        reading.share,
        "Answers in which none could be found; they count as wrong.",
    ),
    _field("$ once", "usd_once", reading.usd, "Labels, search and training, once."),
    _field("$ per 1,000", "usd_per_1000", reading.usd, "A thousand requests."),
)
"""What stands beside the score."""
