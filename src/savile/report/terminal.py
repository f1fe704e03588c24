"""The board in a terminal: what was measured, who leads, how sure it is, and what it does not say.

Text from data and models is printed as text (no markup, control characters escaped). Columns that
do not fit are dropped, the least important first; without color or Unicode the same board is
printed plainly (rich honors NO_COLOR and pipes), so nothing is told by color alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from savile.report import beside, reading
from savile.report.reading import MISSING, Board, Row

WHISKER = 15
"""Characters of the interval's picture."""
NAME = 34
"""Longest technique name shown whole, in characters of the terminal."""
SHORTEST = 12
"""Characters that a name keeps however narrow the terminal is."""
METRIC = 24
STYLES = {"baseline": "dim", "prompt": "", "tuned": ""}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: its head, its cells, and how early it goes when the terminal is narrow."""

    head: str
    cells: tuple[str, ...]
    drop: int
    """Dropped in ascending order; 0 is never dropped."""
    justify: Literal["left", "right"] = "right"

    @property
    def width(self) -> int:
        """Characters of the widest cell."""
        return max(cell_len(text) for text in (self.head, *self.cells))


def render(document: Mapping[str, Any], console: Console) -> None:
    """Print the board document to `console`."""
    board, plain = reading.read(document), console.options.ascii_only

    def say(text: Text | str, indent: int = 0) -> None:
        shown = Text(text) if isinstance(text, str) else text
        if plain:
            shown = Text(_ascii(shown.plain), style=shown.style)
        padded = Padding(shown, (0, 0, 0, indent), expand=False) if indent else shown
        console.print(padded, highlight=False)

    console.print()
    say(Text(board.text("task"), style="bold"))
    say(Text(board.subtitle, style="dim"))
    console.print()
    if board.rows:
        table = _table(_columns(board), board.rows, board, console.width, plain)
        console.print(table, highlight=False)
    if carrying := beside.rows(board):
        console.print()
        table = _table(_beside(board), carrying, board, console.width, plain)
        console.print(table, highlight=False)
    if any(row.name in board.leading for row in board.rows):
        tied = " and what is tied with it" if len(board.leading) > 1 else ""
        say(Text(f"* the highest score{tied}", style="dim"))
    for note in board.notes:
        say(Text(note, style="dim"), indent=2)
    for row in board.others:
        say(Text(f"{row.name} {_why(row)}", style="dim"), indent=2)
    console.print()
    headline, *rest = board.verdict_lines
    say(Text(headline, style="bold"))
    for sentence in rest:
        say(sentence)
    for sentence in board.judge:
        say(Text(sentence, style="dim"))
    for sentence in board.limits:
        say(Text(sentence, style="dim"))


def _table(
    columns: Sequence[Column], rows: Sequence[Row], board: Board, width: int, plain: bool
) -> Table:
    if plain:
        columns = [
            replace(c, head=_ascii(c.head), cells=tuple(map(_ascii, c.cells))) for c in columns
        ]
    name, *rest = fitting(columns, width)
    room = max(SHORTEST, width - sum(c.width + 2 for c in rest))
    cut = tuple(_cut(cell, room, "~" if plain else "…") for cell in name.cells)
    columns = [replace(name, cells=cut), *rest]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(Text(column.head), justify=column.justify, no_wrap=True, overflow="crop")
    for index, row in enumerate(rows):
        style = "bold" if row.name in board.leading else STYLES[row.kind]
        table.add_row(*(Text(column.cells[index], style=style) for column in columns))
    return table


def fitting(columns: Sequence[Column], width: int) -> list[Column]:
    """Return the columns that fit into `width` characters, two between each."""
    kept = list(columns)
    while sum(c.width + 2 for c in kept) - 2 > width and any(c.drop for c in kept):
        kept.remove(min((c for c in kept if c.drop), key=lambda c: c.drop))
    return kept


def _columns(board: Board) -> list[Column]:
    rows, top = board.rows, reading.top_of(board.rows)
    low = min(r.low for r in rows)
    span = (max(r.high for r in rows) - low) or 1.0

    def cells(show: Callable[[Row], str]) -> tuple[str, ...]:
        return tuple(show(row) for row in rows)

    def plain(name: str, show: Callable[[float | None], str]) -> tuple[str, ...]:
        return cells(lambda row: show(row[name]))

    between = cells(lambda row: reading.between(row, top))
    pictures = cells(
        lambda r: whisker((r.low - low) / span, _at(r, low, span), (r.high - low) / span)
    )
    axis = f"{reading.score(low, top)} to {reading.score(low + span, top)}"
    found = [
        Column(head="  technique", cells=cells(partial(_name, board)), drop=0, justify="left"),
        Column(head=f"{_cut(board.metric, METRIC)} [95 %]", cells=between, drop=0),
        Column(head=axis, cells=pictures, drop=10, justify="left"),
        Column(head="labels", cells=plain("labels_used", reading.count), drop=8),
        Column(head="trainable", cells=cells(_trainable), drop=5),
        Column(head="train", cells=cells(_training), drop=7),
        Column(head="request", cells=plain("latency_p50_seconds", reading.seconds), drop=9),
        Column(head="prompt", cells=cells(_tokens), drop=3),
        Column(head="written", cells=cells(partial(_tokens, name="completion_tokens")), drop=3),
        Column(head="memory", cells=plain("peak_bytes", reading.size), drop=2),
        Column(head="artifact", cells=plain("artifact_bytes", reading.size), drop=1),
    ]
    if any(row["usd_per_1000"] is not None for row in rows):
        cost = plain("usd_per_1000", reading.usd)
        found.append(Column(head="$/1000", cells=cost, drop=6))
    if any(row["usd_once"] is not None for row in rows):
        found.append(Column(head="$ once", cells=plain("usd_once", reading.usd), drop=4))
    return found


def _beside(board: Board) -> list[Column]:
    """Return the second table's columns: what was measured beside the score."""
    rows = beside.rows(board)
    found = beside.columns(board)
    names = Column(
        head="  beside the score",
        cells=tuple(_name(board, r) for r in rows),
        drop=0,
        justify="left",
    )
    return [
        names,
        *(
            Column(head=one.head, cells=tuple(map(one.show, rows)), drop=len(found) - place)
            for place, one in enumerate(found)
        ),
    ]


def whisker(low: float, score: float, high: float, width: int = WHISKER) -> str:
    """Return an interval as text, positions from 0 to 1, for example `  ───●────   `."""
    a, b, c = (min(width - 1, max(0, round(x * (width - 1)))) for x in (low, score, high))
    return "".join("●" if i == b else "─" if a <= i <= c else " " for i in range(width))


def _at(row: Row, low: float, span: float) -> float:
    return ((row["score"] or 0.0) - low) / span


def _name(board: Board, row: Row) -> str:
    mark = "*" if row.name in board.leading else " "
    kind = " (baseline)" if row.kind == "baseline" else " (API)" if row.remote else ""
    return f"{mark} {_cut(row.name, NAME)}{kind}"


def _cut(text: str, room: int, sign: str = "…") -> str:
    return text if cell_len(text) <= room else set_cell_size(text, room - 1).rstrip() + sign


def _trainable(row: Row) -> str:
    parameters = row["trainable_parameters"]
    if not parameters:
        return MISSING
    return f"{reading.count(parameters)} ({reading.share(row['trainable_share'])})"


def _training(row: Row) -> str:
    if row.kind != "tuned":
        return MISSING
    return reading.seconds((row["search_seconds"] or 0.0) + (row["train_seconds"] or 0.0))


def _tokens(row: Row, name: str = "prompt_tokens") -> str:
    tokens = row[name]
    return MISSING if tokens is None else f"{reading.count(tokens)} tok"


def _why(row: Row) -> str:
    status = (row.text("status") or "not run").replace("_", " ").replace("ok", "no score")
    return f"{status}: {row.text('reason') or 'no reason was recorded'}"


def _ascii(text: str) -> str:
    signs = str.maketrans({"●": "o", "─": "-", MISSING: "-", "…": "~", "·": "-"})
    return text.translate(signs).encode("ascii", "backslashreplace").decode("ascii")
