"""Two pictures as inline SVG: the ranked intervals, and quality against a cost.

The pictures take their colors from the page's style sheet by class, so they follow light and dark,
and carry a title and a description for people who cannot see them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from savile.report import reading
from savile.report.reading import Row

LINE = 30
"""Height of one row of the interval plot, in SVG units."""
LEFT = 250
WIDTH = 960
RIGHT = 190
LONGEST = 32
"""Characters of a technique's name in a picture."""
PER_CHARACTER = 7.5
"""Width that a character needs at 13 units, in SVG units; labels are kept apart by it."""
Show = Callable[[float | None], str]


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


def intervals(rows: Sequence[Row], leading: Sequence[str]) -> str:
    """Return the ranked interval plot; the band is the interval of the highest score."""
    top, axis = reading.top_of(rows), linear(rows, LEFT, WIDTH - RIGHT)
    height = LINE * len(rows) + 34
    best = rows[0]
    band = axis.at(best.high) - axis.at(best.low)
    parts = [
        f'<rect class="band" x="{axis.at(best.low):.1f}" y="4" width="{band:.1f}" '
        f'height="{height - 34:.1f}"/>'
    ]
    for tick in axis.ticks:
        x = axis.at(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{height - 26}"/>')
        parts.append(_text(x, height - 8, f"{tick:g}", "soft", "middle"))
    for index, row in enumerate(rows):
        y, kind = 4 + LINE * (index + 0.5), row.kind
        a, b, c = axis.at(row.low), axis.at(row["score"] or 0.0), axis.at(row.high)
        bold = "lead" if row.name in leading else ""
        told = f"{row.name}: {_between(row, top)}"
        parts.append(
            f"<g><title>{escape(told)}</title>"
            f'<line class="{kind}" x1="{a:.1f}" x2="{c:.1f}" y1="{y}" y2="{y}"/>'
            f'<circle class="{kind}" cx="{b:.1f}" cy="{y}" r="6"/>'
            f"{_text(LEFT - 14, y + 4.5, shortened(row.name), bold, 'end')}"
            f"{_text(WIDTH - RIGHT + 16, y + 4.5, _between(row, top), bold, 'start')}</g>"
        )
    said = "; ".join(f"{row.name} {_between(row, top)}" for row in rows)
    return _svg(WIDTH, height, "Scores with 95 % intervals, best first", said, parts)


def quality_cost(rows: Sequence[Row], cost: str, title: str, show: Show) -> str | None:
    """Return score against the cost field `cost` on a log axis; None below two rows with a cost.

    The dashed line is the front: no technique on the board is both cheaper and better.
    """
    priced = [row for row in rows if (row[cost] or 0.0) > 0]
    if len(priced) < 2:
        return None
    width, height = 560, 380
    top, costs = reading.top_of(rows), [row[cost] or 0.0 for row in priced]
    across = Axis(low=min(costs) / 1.4, high=max(costs) * 1.4, start=58, stop=width - 20, log=True)
    up = linear(priced, height - 48, 16)
    parts = []
    for tick in across.ticks:
        x = across.at(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="16" y2="{height - 48}"/>')
        parts.append(_text(x, height - 30, _tick(tick), "soft", "middle"))
    for tick in up.ticks:
        y = up.at(tick)
        parts.append(f'<line class="grid" x1="58" x2="{width - 20}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(50, y + 4, f"{tick:g}", "soft", "end"))
    parts.append(_text((58 + width - 20) / 2, height - 8, title, "soft", "middle"))
    points = [(across.at(row[cost] or 0.0), up.at(row["score"] or 0.0), row) for row in priced]
    parts.append(_front([(x, y) for x, y, _ in points]))
    parts += labeled(points, [f"{reading.score(r['score'], top)}, {show(r[cost])}" for r in priced])
    said = "; ".join(
        f"{r.name} {reading.score(r['score'], top)} at {show(r[cost])}" for r in priced
    )
    return _svg(width, height, f"Score against {title}", said, parts)


def labeled(points: Sequence[tuple[float, float, Row]], values: Sequence[str]) -> list[str]:
    """Return dots, each with its name where there is room for it; the tooltip has it anyway."""
    taken = [(x - 8, y - 8, x + 8, y + 8) for x, y, _ in points]
    found = []
    for (x, y, row), value in zip(points, values, strict=True):
        name = shortened(row.name)
        found.append(
            f"<g><title>{escape(f'{row.name}: {value}')}</title>"
            f'<circle class="{row.kind}" cx="{x:.1f}" cy="{y:.1f}" r="6"/></g>'
        )
        w = PER_CHARACTER * len(name)
        places = [
            (x + 11, y + 4.5, "start", x + 10),
            (x - 11, y + 4.5, "end", x - 10 - w),
            (x, y - 12, "middle", x - w / 2),
            (x, y + 21, "middle", x - w / 2),
        ]
        for at_x, at_y, anchor, left in places:
            box = (left, at_y - 11, left + w, at_y + 3)
            inside = box[0] >= 60 and box[2] <= 556 and box[1] >= 4 and box[3] <= 334
            if inside and not any(_overlap(box, other) for other in taken if other != _dot(x, y)):
                taken.append(box)
                found.append(_text(at_x, at_y, name, "halo", anchor))
                break
    return found


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


def _between(row: Row, top: float) -> str:
    low, high = reading.score(row["low"], top), reading.score(row["high"], top)
    return f"{reading.score(row['score'], top)} [{low}, {high}]"


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    shown = f' class="{kind}"' if kind else ""
    return f'<text{shown} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(width: float, height: float, title: str, description: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>{''.join(parts)}</svg>"
    )
