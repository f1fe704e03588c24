"""The tables of `docs/techniques.md`: what tests found of every technique, and its files."""

from __future__ import annotations

from typing import Any, Final

from board_table import lines

Record = dict[str, Any]

CONTRACTS: Final = "contracts"
COLUMNS: Final = {
    CONTRACTS: "contract tests passed",
    "parity": "parity, largest error",
    "families": "Llama, Qwen2, GPT-NeoX",
    "batch": "batch = single",
    "tree": "tree = separate",
    "resume": "save, resume",
    "export": "export, largest error",
}
"""Heads by column."""
AXES: Final = {"deltas": "Deltas", "objectives": "Objectives", "prompts": "Prompts"}
FAMILIES: Final = ("llama", "qwen2", "gpt_neox")
GAINED: Final = ", reward gained"
"""What stands behind a family whose figure is a gain."""


def techniques(records: list[Record]) -> str:
    """Return one table an axis: a row a technique, a column a promise."""
    cells = {(r["technique"], r["column"]): r for r in records if r["kind"] == "gate"}
    rows = []
    for axis, title in AXES.items():
        names = [r["technique"] for r in records if r["kind"] == "technique" and r["axis"] == axis]
        rows += [
            f"### {title}",
            "",
            f"| technique | {' | '.join(COLUMNS.values())} |",
            "|---|" + "---|" * len(COLUMNS),
            *(f"| {n} | {' | '.join(show(cells[n, c]) for c in COLUMNS)} |" for n in names),
            "",
        ]
    return lines(rows[:-1]) if cells else ""


def files(records: list[Record]) -> str:
    """Return the table of every technique's files."""
    found = [r for r in records if r["kind"] == "technique"]
    rows = [
        "| technique | lines of its file | of them code | other source files that name it "
        "| test files that name it |",
        "|---|--:|--:|---|--:|",
        *(
            f"| {r['technique']} | {r['lines']} | {r['code_lines']} "
            f"| {', '.join(r['named_in']) or 'none'} | {len(r['tests'])} |"
            for r in sorted(found, key=lambda r: list(AXES).index(r["axis"]))
        ),
    ]
    return lines(rows) if found else ""


def show(cell: Record) -> str:
    """Return a figure as the table has it, or why there is none."""
    if not cell["tests"]:
        return f"does not apply: {cell['reason']}"
    if cell["column"] == CONTRACTS:
        return str(cell["tests"])
    if cell["column"] == "families":
        return learned(cell["values"])
    return compared(cell["values"])


def learned(values: dict[str, float]) -> str:
    """Return what is left of the loss by family, or the reward that was gained."""
    if any(about.endswith(GAINED) for about in values):
        return "reward " + ", ".join(f"+{values[family + GAINED]:.2f}" for family in FAMILIES)
    return ", ".join(f"{values[family]:.2g}" for family in FAMILIES)


def compared(values: dict[str, float]) -> str:
    """Return errors, those against one reference side by side: `TRL: loss 1e-07, gradient 3e-07`;
    what does not differ is the same."""
    by_reference: dict[str, list[str]] = {}
    for about, value in sorted(values.items()):
        reference, _, of_what = about.rpartition(", ")
        shown = f"{of_what} {value:.0e}" if value else f"same {of_what}"
        by_reference.setdefault(reference, []).append(shown)
    return "; ".join(
        f"{reference}: {', '.join(shown)}" if reference else ", ".join(shown)
        for reference, shown in by_reference.items()
    )
