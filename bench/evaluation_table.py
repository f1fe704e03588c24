"""The tables of the evaluation jobs: rates, ratios, the gate, and how time grows."""

from __future__ import annotations

from typing import Any

from board_table import lines, one
from training_table import span

PEERS = {
    "shipped": "lm-eval as shipped",
    "best": "lm-eval at its best",
    "plain": "`generate`",
    "cached": "`generate` with a prefix cache",
}
"""Names of the peers' parts."""
GROWTH = "evaluation-growth-"
SIDES = {"shipped": PEERS["shipped"], "best": PEERS["best"], "ours": "Savile"}
"""Names in a picture of growth."""

Record = dict[str, Any]


def ratios(results: dict[str, list[Record]]) -> str:
    """Return the table of questions a CPU second, a row a peer."""
    heads = (
        "evaluation", "base", "tokens of the prompt", "peer", "its option", "its rate",
        "Savile's rate", "times the peer", "gate",
    )  # fmt: skip
    rows = [f"| {' | '.join(heads)} |", "|---|---|--:|---|---|--:|--:|--:|---|"]
    for records in _jobs(results):
        setup, gate, found = (one(records, kind) for kind in ("setup", "gate", "summary"))
        for part, option in found["options"].items():
            cells = [
                setup["title"],
                setup["shape"],
                f"{setup['prompt_tokens']:.0f}",
                PEERS[part],
                option,
                f"{found[part]:,.2f}",
                f"{found['ours']:,.1f}",
                f"**{span(found[f'ratio_to_{part}'])}**",
                gated(gate),
            ]
            rows.append(f"| {' | '.join(cells)} |")
    return lines(rows) if len(rows) > 2 else ""


def gated(gate: Record) -> str:
    """Return what was equal."""
    said = f"{gate['same_predictions']} of {gate['questions']} answers"
    if gate.get("ties"):
        said += f", {gate['ties']} ties"
    if "logprob_error" in gate:
        said += f", {gate['logprob_error']:.0e} nats"
    return said


def growth(results: dict[str, list[Record]]) -> str:
    """Return how CPU seconds a question grow, a table for each run."""
    parts: list[str] = []
    for name in sorted(name for name in results if name.startswith(GROWTH)):
        records = results[name]
        parts += [
            f"| {one(records, 'about')['unit']} | {' | '.join(SIDES.values())} | times best |",
            "|--:|--:|--:|--:|--:|",
        ]
        for point in (r for r in records if r["kind"] == "point"):
            seconds = " | ".join(f"{1e3 * point[side]:,.1f} ms" for side in SIDES)
            parts.append(f"| {point['x']} | {seconds} | {point['best'] / point['ours']:.1f} |")
        parts.append("")
    return lines(parts[:-1])


def _jobs(results: dict[str, list[Record]]) -> list[list[Record]]:
    """Return the records of every job, labels first and in the order of the worked examples."""
    names = [n for n in results if n.startswith("evaluation-") and not n.startswith(GROWTH)]
    found = [results[name] for name in names]
    return sorted(found, key=lambda records: _place(one(records, "setup")))


def _place(setup: Record) -> tuple[str, str, int]:
    return setup["asks"], setup["shape"], setup["shots"]
