"""The tables and pictures of the profiles: where a step's time went, before and after."""

from __future__ import annotations

from html import escape
from typing import Any

from board_table import lines, one
from pictures import text

PREFIX = "profile-"
SIDES = {
    "shipped": "TRL + PEFT as shipped",
    "before": "before: over transformers' modules",
    "after": "after: the own pass",
}
"""Names of what was profiled; the picture has the last two."""
DRAWN = ("before", "after")
WIDTH, LEFT, BAR, GAP, TOP = 640, 24, 34, 58, 62
LEGEND = TOP + len(DRAWN) * GAP + 28
LINE = 22
COLUMNS = (420, 510, 616)
"""Right ends of the legend's figures: before, after, and their ratio."""
COLORS = ("#0969da", "#bc6c00", "#1a7f37", "#8250df", "#bf3989", "#6e7781")
DARK = ("#4493f8", "#e3912a", "#3fb950", "#ab7df8", "#db61a2", "#8b949e")
STYLE = (
    "svg{background:#fff}text{font:13px system-ui,sans-serif;fill:#24292f}.soft{fill:#57606a}"
    + "".join(f".p{n}{{fill:{color}}}" for n, color in enumerate(COLORS))
    + "@media(prefers-color-scheme:dark){svg{background:#0d1117}text{fill:#e6edf3}"
    ".soft{fill:#9198a1}" + "".join(f".p{n}{{fill:{color}}}" for n, color in enumerate(DARK)) + "}"
)

Record = dict[str, Any]


def profiles(results: dict[str, list[Record]]) -> str:
    """Return a table for each profiled job: milliseconds and share of a step by part."""
    rows: list[str] = []
    for name in sorted(name for name in results if name.startswith(PREFIX)):
        setup, found = one(results[name], "setup"), by_side(results[name])
        rows += [
            f"{title(setup)}: CPU milliseconds of a step of {setup['batch_size']} rows.",
            "",
            f"| part | {' | '.join(SIDES[side] for side in found)} |",
            "|---|" + "--:|" * len(found),
        ]
        for part in next(iter(found.values()))["parts"]:
            cells = [
                cell(record["parts"][part], record["step_seconds"]) for record in found.values()
            ]
            rows.append(f"| {part} | {' | '.join(cells)} |")
        told = {
            "**a step without the profiler**": lambda r: f"**{1e3 * r['step_seconds']:,.0f}**",
            "with it": lambda r: f"{r['profiled_step_cpu_seconds'] / r['step_seconds']:.2f} times",
            "waited": lambda r: f"{r['wall_to_cpu']:.2f} times",
            "operations and ranges": lambda r: f"{r['events_a_step']:,}",
            "useful FLOP of the matmul peak": lambda r: f"{r['share_of_peak']:.0%}",
        }
        for words, say in told.items():
            rows.append(f"| {words} | {' | '.join(map(say, found.values()))} |")
        rows += ["", f"![{title(setup)}: a step by part](../docs/{name}.svg)", ""]
    return lines(rows[:-1])


def by_side(records: list[Record]) -> dict[str, Record]:
    """Return the profiles of a job in the order of `SIDES`."""
    found = {r["side"]: r for r in records if r["kind"] == "profile"}
    return {side: found[side] for side in SIDES if side in found}


def title(setup: Record) -> str:
    """Return what was trained, on what."""
    return f"{setup['title']}, {setup['shape']}"


def cell(seconds: float, whole: float) -> str:
    """Return milliseconds with their share.

    >>> cell(0.25, 1.0)
    '250 (25%)'
    """
    return f"{1e3 * seconds:,.0f} ({seconds / whole:.0%})"


def picture(records: list[Record]) -> str:
    """Return the picture of one job: two bars by part, and the figures under them."""
    setup, found = one(records, "setup"), by_side(records)
    both = {side: found[side] for side in DRAWN}
    longest = max(record["step_seconds"] for record in both.values())
    head = f"{title(setup)}: CPU time of a step of {setup['batch_size']} rows"
    parts = [f"<style>{STYLE}</style>", text(LEFT, 26, head, "", "start")]
    for row, (side, record) in enumerate(both.items()):
        y, x = TOP + row * GAP, float(LEFT)
        said = f"{SIDES[side]}, {1e3 * record['step_seconds']:,.0f} ms"
        parts.append(text(LEFT, y - 6, said, "soft", "start"))
        for number, seconds in enumerate(record["parts"].values()):
            wide = seconds / longest * (WIDTH - 2 * LEFT)
            parts.append(
                f'<rect class="p{number}" x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{BAR}"/>'
            )
            x += wide
    heads = zip(COLUMNS, ("before", "after", "ratio"), strict=True)
    parts += [text(x, LEGEND - 4, words, "soft", "end") for x, words in heads]
    for number, part in enumerate(both["before"]["parts"]):
        y = LEGEND + LINE * (number + 1) - 4
        before, after = (record["parts"][part] for record in both.values())
        parts.append(
            f'<rect class="p{number}" x="{LEFT}" y="{y - 11}" width="13" height="13" rx="2"/>'
        )
        parts.append(text(LEFT + 22, y, part, "", "start"))
        figures = (f"{1e3 * before:,.0f} ms", f"{1e3 * after:,.0f} ms", f"{before / after:.1f}")
        parts += [text(x, y, said, "", "end") for x, said in zip(COLUMNS, figures, strict=True)]
    height = LEGEND + LINE * (len(both["before"]["parts"]) + 1)
    said = "; ".join(
        f"{SIDES[side]}: "
        + ", ".join(f"{part} {1e3 * s:,.0f} ms" for part, s in record["parts"].items())
        for side, record in both.items()
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">'
        f"<title>{escape(head)}</title><desc>{escape(said)}</desc>{''.join(parts)}</svg>\n"
    )
