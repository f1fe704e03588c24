"""Draws `docs/growth-*.svg` from the scaling runs; `table.py` writes them with the documents.

Both axes are logarithmic. The pictures carry their colors for light and dark pages, and a title and
a description for people who cannot see them.
"""

from __future__ import annotations

from html import escape
from typing import Any

from savile.report.charts import Axis

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 72, 172, 44, 348
NEAR = 16
"""Least distance between two labels at the right, in SVG units."""
SIDES = {"shipped": "TRL + PEFT as shipped", "best": "TRL + PEFT at its best", "ours": "Savile"}
STYLE = (
    "svg{background:#fff}text{font:13px system-ui,sans-serif;fill:#24292f}"
    ".soft{fill:#57606a}.grid{stroke:#d8dee4}.line{fill:none;stroke-width:2.5}"
    ".shipped{stroke:#8c959f;fill:#8c959f}.best{stroke:#bc6c00;fill:#bc6c00}"
    ".ours{stroke:#0969da;fill:#0969da}path.line{fill:none}"
    "@media(prefers-color-scheme:dark){svg{background:#0d1117}text{fill:#e6edf3}"
    ".soft{fill:#9198a1}.grid{stroke:#30363d}.best{stroke:#e3912a;fill:#e3912a}"
    ".ours{stroke:#4493f8;fill:#4493f8}}"
)

Record = dict[str, Any]


def growth(records: list[Record], sides: dict[str, str] = SIDES, each: str = "a row") -> str:
    """Return the picture of one scaling run: CPU milliseconds a row against what grows.

    Args:
        records: of the run.
        sides: names of what was timed, as they are shown.
        each: what the time is of.
    """
    about = next(r for r in records if r["kind"] == "about")
    points = [r for r in records if r["kind"] == "point"]
    across = scale([p["x"] for p in points], LEFT, WIDTH - RIGHT)
    up = scale([1e3 * p[side] for p in points for side in sides], BOTTOM, TOP)
    parts = [f"<style>{STYLE}</style>", text(LEFT, 22, about["title"], "", "start")]
    for tick in across.ticks:
        x = across.at(tick)
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{BOTTOM}"/>')
        parts.append(text(x, BOTTOM + 18, shown(tick), "soft", "middle"))
    for tick in up.ticks:
        y = up.at(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(text(LEFT - 8, y + 4, shown(tick), "soft", "end"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(text(middle, BOTTOM + 40, about["unit"], "soft", "middle"))
    parts.append(text(LEFT, TOP - 6, f"CPU milliseconds {each}", "soft", "start"))
    ends = {side: up.at(1e3 * points[-1][side]) for side in sides}
    for side, y in apart(ends).items():
        drawn = [(across.at(p["x"]), up.at(1e3 * p[side])) for p in points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in drawn)
        parts.append(f'<path class="line {side}" d="M{path}"/>')
        parts += [f'<circle class="{side}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in drawn]
        parts.append(text(WIDTH - RIGHT + 10, y + 4, sides[side], "", "start"))
    said = "; ".join(
        f"{p['x']:,.0f}: {', '.join(f'{sides[s]} {1e3 * p[s]:,.1f} ms' for s in sides)}"
        for p in points
    )
    title = f"CPU time {each} against {about['unit']}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f"<title>{escape(title)}</title><desc>{escape(said)}</desc>{''.join(parts)}</svg>\n"
    )


def scale(values: list[float], start: float, stop: float) -> Axis:
    """Return a logarithmic scale with a little room on both sides."""
    return Axis(low=min(values) / 1.25, high=max(values) * 1.25, start=start, stop=stop, log=True)


def apart(ends: dict[str, float]) -> dict[str, float]:
    """Return where labels stand that must not touch, from the top down."""
    found: dict[str, float] = {}
    for side, y in sorted(ends.items(), key=lambda item: item[1]):
        found[side] = max(y, max(found.values(), default=0.0) + NEAR)
    return found


def shown(value: float) -> str:
    """Return a number of an axis.

    >>> [shown(v) for v in (0.5, 30, 2000, 5e6)]
    ['0.5', '30', '2k', '5M']
    """
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def text(x: float, y: float, words: str, kind: str, anchor: str) -> str:
    """Return a text element."""
    shade = f' class="{kind}"' if kind else ""
    return f'<text{shade} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
