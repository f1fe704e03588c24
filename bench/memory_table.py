"""The table of expected and measured peaks of memory."""

from __future__ import annotations

from typing import Any

from board_table import lines


def expected(records: list[dict[str, Any]]) -> str:
    """Return expected and measured peak of every technique, shape beside shape."""
    found = {(r["technique"], r["shape"]): r for r in records if r["kind"] == "peak"}
    if not found:
        return ""
    shapes = list(dict.fromkeys(shape for _, shape in found))
    names = list(dict.fromkeys(technique for technique, _ in found))
    heads = [f"{shape}: expected | measured | ratio" for shape in shapes]
    rows = [f"| technique | {' | '.join(heads)} |", "|---|" + "--:|--:|--:|" * len(shapes)]
    for name in names:
        rows.append(f"| {name} | {' | '.join(_cells(found.get((name, s))) for s in shapes)} |")
    ratios = [r["expected"] / r["measured"] for r in found.values()]
    within = sum(1 / 1.5 <= ratio <= 1.5 for ratio in ratios)
    return lines(
        [
            *rows,
            "",
            f"{within} of {len(ratios)} within a factor of 1.5; from {min(ratios):.2f} to "
            f"{max(ratios):.2f} times the measured peak.",
        ]
    )


def _cells(record: dict[str, Any] | None) -> str:
    if record is None:
        return " | | "
    megabytes = [f"{record[key] / 1e6:,.0f} MB" for key in ("expected", "measured")]
    return " | ".join([*megabytes, f"{record['expected'] / record['measured']:.2f}"])
