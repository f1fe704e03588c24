"""Two pictures as inline SVG: the ranked intervals, and quality against a cost.

The pictures take their colors from the page's style sheet by class, so they follow light and dark,
and carry a title and a description for people who cannot see them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from savile.report import reading
from savile.report.columns import Show
from savile.report.reading import Board, Row

LINE = 30
"""Height of one row of the interval plot, in SVG units."""
LEFT = 250
WIDTH = 960
RIGHT = 250
FOOT = 52
"""Height below a plot: its numbers, then what they are."""
COST_WIDTH, COST_HEIGHT, COST_LEFT = 560, 380, 68
"""Size of a cost picture, and the room on its left for scores."""
LONGEST = 32
"""Characters of a technique's name in a picture."""
PER_CHARACTER = 7.5
"""Width that a character needs at 13 units, in SVG units; labels are kept apart by it."""


class Cost(NamedTuple):
    """A cost that scores are held against."""

    key: str
    """Field of a row."""
    title: str
    show: Show


class Picture(NamedTuple):
    """A picture, and what has no room in it."""

    svg: str
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A scale from values to SVG units."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def at(self, value: float) -> float:
        """Return the position of a value."""
        low, high, v = (
            (math.log10(x) if self.log else x) for x in (self.low, self.high, max(value, 1e-12))
        )
        return self.start + (v - low) / ((high - low) or 1.0) * (self.stop - self.start)

    @property
    def ticks(self) -> list[float]:
        """Round values inside the scale, at most about eight."""
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            factors = (1, 2, 5) if last - first <= 2 else (1, 3) if last - first <= 3 else (1,)
            every = [f * 10.0**e for e in range(first, last + 1) for f in factors]
        else:
            step = nice((self.high - self.low) / 6)
            first = math.ceil(self.low / step - 1e-9)
            every = [(first + i) * step for i in range(20)]
        return [t for t in every if self.low * 0.999 <= t <= self.high * 1.001]


def nice(step: float) -> float:
    """Return the next of 1, 2, 5 times a power of ten."""
    if step <= 0:
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(step))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= step * 0.999)


def linear(rows: Sequence[Row], start: float, stop: float) -> Axis:
    """Return a scale of scores with a little room on both sides."""
    low, high = min(r.low for r in rows), max(r.high for r in rows)
    room = (high - low or 0.1) * 0.04
    top = reading.top_of(rows)
    return Axis(low=max(0.0, low - room), high=min(top, high + room), start=start, stop=stop)


def intervals(board: Board) -> str:
    """Return the ranked interval plot; the band is the interval of the highest score."""
    rows = board.rows
    top, axis = reading.top_of(rows), linear(rows, LEFT, WIDTH - RIGHT)
    bottom, best = LINE * len(rows) + 8, rows[0]
    height = bottom + FOOT
    band = axis.at(best.high) - axis.at(best.low)
    parts = [
        f'<rect class="band" x="{axis.at(best.low):.1f}" y="4" width="{band:.1f}" '
        f'height="{bottom - 8:.1f}"/>'
    ]
    for tick in axis.ticks:
        x = axis.at(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{bottom}"/>')
        parts.append(_text(x, bottom + 18, f"{tick:g}", "soft", "middle"))
    parts.append(_text((axis.start + axis.stop) / 2, bottom + 42, board.metric, "soft", "middle"))
    said: list[str] = []
    for index, row in enumerate(rows):
        y, kind = 4 + LINE * (index + 0.5), row.kind
        a, b, c = axis.at(row.low), axis.at(row["score"] or 0.0), axis.at(row.high)
        bold = "lead" if row.name in board.leading else ""
        beside = f"{reading.between(row, top)} {board.mark(row)}".strip()
        said.append(f"{row.name} {beside}")
        parts.append(
            f"<g><title>{escape(f'{row.name}: {beside}')}</title>"
            f'<line class="{kind}" x1="{a:.1f}" x2="{c:.1f}" y1="{y}" y2="{y}"/>'
            f'<circle class="{kind}" cx="{b:.1f}" cy="{y}" r="6"/>'
            f"{_text(LEFT - 14, y + 4.5, shortened(row.name), bold, 'end')}"
            f"{_text(WIDTH - RIGHT + 16, y + 4.5, beside, bold, 'start')}</g>"
        )
    title = f"{board.metric} with 95 % intervals, best first"
    return _svg(WIDTH, height, title, "; ".join(said), parts)


def quality_cost(board: Board, cost: Cost) -> Picture | None:
    """Return score against a cost on a log axis; None below two rows with that cost.

    The dashed line is the front: no technique on the board is both cheaper and better.
    """
    priced = [row for row in board.rows if (row[cost.key] or 0.0) > 0]
    if len(priced) < 2:
        return None
    start, stop, bottom = COST_LEFT, COST_WIDTH - 20, COST_HEIGHT - 48
    top, costs = reading.top_of(board.rows), [row[cost.key] or 0.0 for row in priced]
    across = Axis(low=min(costs) / 1.4, high=max(costs) * 1.4, start=start, stop=stop, log=True)
    up = linear(priced, bottom, 16)
    parts = []
    for tick in across.ticks:
        x = across.at(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="16" y2="{bottom}"/>')
        parts.append(_text(x, bottom + 18, _tick(tick), "soft", "middle"))
    for tick in up.ticks:
        y = up.at(tick)
        parts.append(f'<line class="grid" x1="{start}" x2="{stop}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(start - 8, y + 4, f"{tick:g}", "soft", "end"))
    parts.append(_text((start + stop) / 2, COST_HEIGHT - 8, cost.title, "soft", "middle"))
    middle = (16 + bottom) / 2
    turned = f'<g transform="rotate(-90 14 {middle})">'
    parts.append(f"{turned}{_text(14, middle, board.metric, 'soft', 'middle')}</g>")
    points = [(across.at(row[cost.key] or 0.0), up.at(row["score"] or 0.0), row) for row in priced]
    parts.append(_front([(x, y) for x, y, _ in points]))
    values = [f"{reading.score(r['score'], top)}, {cost.show(r[cost.key])}" for r in priced]
    drawn, crowded = labeled(points, values)
    said = "; ".join(f"{r.name} {value}" for r, value in zip(priced, values, strict=True))
    svg = _svg(
        COST_WIDTH, COST_HEIGHT, f"{board.metric} against {cost.title}", said, [*parts, *drawn]
    )
    return Picture(svg, f"By number: {'; '.join(crowded)}." if crowded else "")


def labeled(
    points: Sequence[tuple[float, float, Row]], values: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return dots, each with its name or, where there is no room, a number; and what those mean."""
    taken = [_dot(x, y) for x, y, _ in points]
    found: list[str] = []
    crowded: list[str] = []
    for (x, y, row), value in zip(points, values, strict=True):
        name = shortened(row.name)
        width = PER_CHARACTER * len(name)
        others = [box for box in taken if box != _dot(x, y)]
        label = ""
        for at_x, at_y, anchor, left in _places(x, y, width):
            box = (left, at_y - 11, left + width, at_y + 3)
            if _inside(box) and not any(_overlap(box, other) for other in others):
                taken.append(box)
                label = _text(at_x, at_y, name, "halo", anchor)
                break
        else:
            crowded.append(f"{len(crowded) + 1} {row.name} ({value})")
        number = "" if label else _text(x, y + 3.5, str(len(crowded)), "number", "middle")
        found.append(
            f"<g><title>{escape(f'{row.name}: {value}')}</title>"
            f'<circle class="{row.kind}" cx="{x:.1f}" cy="{y:.1f}" r="{6 if label else 7}"/>'
            f"{number}</g>{label}"
        )
    return found, crowded


def _places(x: float, y: float, width: float) -> list[tuple[float, float, str, float]]:
    """Return where a label of a dot may stand: its x, y, anchor and left end."""
    return [
        (x + 11, y + 4.5, "start", x + 10),
        (x - 11, y + 4.5, "end", x - 10 - width),
        (x, y - 12, "middle", x - width / 2),
        (x, y + 21, "middle", x - width / 2),
    ]


def _inside(box: tuple[float, float, float, float]) -> bool:
    left, top, right, bottom = box
    return (
        left >= COST_LEFT + 2
        and top >= 4
        and right <= COST_WIDTH - 4
        and bottom <= COST_HEIGHT - 46
    )


def _tick(value: float) -> str:
    return reading.count(value) if value >= 1000 else f"{value:g}"


def shortened(name: str) -> str:
    """Return a name that fits into a picture."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _dot(x: float, y: float) -> tuple[float, float, float, float]:
    return (x - 8, y - 8, x + 8, y + 8)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _front(points: Sequence[tuple[float, float]]) -> str:
    front: list[tuple[float, float]] = []
    for x, y in sorted(points):
        if not front or y < front[-1][1]:
            front.append((x, y))
    path = "".join(
        f"{'H' if i else 'M'}{x:.1f}{' ' if not i else 'V'}{y:.1f}"
        for i, (x, y) in enumerate(front)
    )
    return f'<path class="front" d="{path}"/>' if len(front) > 1 else ""


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    shown = f' class="{kind}"' if kind else ""
    return f'<text{shown} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(width: float, height: float, title: str, description: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>{''.join(parts)}</svg>"
    )
