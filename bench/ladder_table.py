"""The table of a whole ladder against the same techniques one after another, and of overheads."""

from __future__ import annotations

from typing import Any

from board_table import lines

CASES = {"short": "a short instruction", "labels": "an instruction that names every intent"}
INTENTS = 77
"""Classes of Banking77."""
Results = dict[str, list[dict[str, Any]]]


def ladders(results: Results) -> str:
    """Return what the ladder took beside what the peer would take, and the gate."""
    rows = [
        "| prompt | whole ladder, Savile | dearest technique once, TRL | ladder to it "
        "| one by one, TRL + PEFT | ladder to that | winners, ours and theirs |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for name in sorted(name for name in results if name.startswith("ladder-")):
        kinds = {record["kind"]: record for record in results[name]}
        if "summary" not in kinds:
            continue
        found, gate = kinds["summary"], kinds["gate"]
        cells = [
            f"{CASES[kinds['setup']['instruction']]}; {intents(kinds['setup'])}",
            _hours(found["ours_cpu_seconds"]),
            _three(found["dearest_once_cpu_seconds"]),
            _ratio(found["ours_to_dearest_once"]),
            _three(found["one_by_one_cpu_seconds"]),
            _ratio(found["ours_to_one_by_one"]),
            " and ".join(f"{gate['best'][side]}" for side in ("ours", "peer")),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return lines(rows) if len(rows) > 2 else ""


def intents(setup: dict[str, Any]) -> str:
    """Return of how many classes a ladder's data were."""
    return f"{setup.get('classes') or INTENTS} of {INTENTS} intents"


def overheads(results: Results) -> str:
    """Return where the CPU seconds of a ladder go, case by case."""
    found = [r[-1] for name, r in sorted(results.items()) if name.startswith("overhead-")]
    if not found:
        return ""
    parts = list(found[0]["seconds"])
    rows = [
        f"| CPU seconds | {' | '.join(r['case'] for r in found)} |",
        "|---|" + "--:|" * len(found),
    ]
    for part in parts:
        cells = [f"{r['seconds'].get(part, 0.0):.1f}" for r in found]
        rows.append(f"| {part} | {' | '.join(cells)} |")
    shares = [f"{r['overhead']:.1%}" for r in found]
    rows.append(f"| overhead | {' | '.join(shares)} |")
    return lines(rows)


def _three(values: list[float]) -> str:
    return f"{_hours(values[0])} ({_hours(values[1])}-{_hours(values[2])})"


def _ratio(values: list[float]) -> str:
    return f"**{values[0]:.2f}** ({min(values):.2f}-{max(values):.2f})"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h" if seconds >= 3600 else f"{seconds:,.0f} s"
