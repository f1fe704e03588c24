"""The tables of the training jobs: ratios with their range, the gate's errors, the peer's options,
and how time grows."""

from __future__ import annotations

from typing import Any

from board_table import lines, one

DASH = "\N{EN DASH}"
PEERS = {
    "shipped": "TRL + PEFT as shipped",
    "best": "TRL + PEFT at its best",
    "trainer": "transformers' Trainer + PEFT",
}
"""Names of the peer's sides in a summary."""
ERRORS = (
    "first_loss_relative",
    "gradient_relative_worst_tensor",
    "curve_relative_worst_step",
)

Record = dict[str, Any]


def jobs(results: dict[str, list[Record]]) -> list[list[Record]]:
    """Return the records of every training job, by goal, job and shape."""
    found = [records for name, records in results.items() if name.startswith("training-")]
    return sorted(found, key=lambda records: _place(one(records, "setup")))


def _place(setup: Record) -> tuple[str, str, int]:
    return setup["goal"], setup["job"], setup["trunk_parameters"] + setup["head_parameters"]


def short(results: dict[str, list[Record]]) -> str:
    """Return the table of the ratios alone."""
    rows = [
        "| training | base | Savile | times TRL + PEFT as shipped | times TRL + PEFT at its best |",
        "|---|---|--:|--:|--:|",
    ]
    for records in jobs(results):
        setup, found = one(records, "setup"), one(records, "summary")
        rows.append(
            f"| {setup['title']} | {setup['shape']} | {rate(found['ours'])} "
            f"| {span(found['ratio_to_shipped'])} | **{span(found['ratio_to_best'])}** |"
        )
    return lines(rows)


def ratios(results: dict[str, list[Record]]) -> str:
    """Return the table of rates, ratios, the gate's errors and shares of peak, a row a peer."""
    heads = (
        "job", "base", "tokens a row", "peer", "its option", "its rate", "Savile's rate",
        "times the peer", "gate: loss, gradient, curve", "share of peak, Savile and peer",
    )  # fmt: skip
    rows = [f"| {' | '.join(heads)} |", "|---|---|--:|---|---|--:|--:|--:|---|--:|"]
    for records in jobs(results):
        setup, gate, found = (one(records, kind) for kind in ("setup", "gate", "summary"))
        errors = ", ".join(f"{gate[name]:.0e}" for name in ERRORS)
        for side in (side for side in PEERS if side in found):
            cells = [
                f"{setup['goal']} {setup['job']}",
                setup["shape"],
                f"{setup['tokens'] / setup['rows']:.0f}",
                PEERS[side],
                option(found["options"][side]),
                rate(found[side]),
                rate(found["ours"]),
                f"**{span(found[f'ratio_to_{side}'])}**",
                errors,
                f"{share(found['ours'])}, {share(found[side])}",
            ]
            rows.append(f"| {' | '.join(cells)} |")
    return lines(rows)


def gates(results: dict[str, list[Record]]) -> str:
    """Return the table of the equality gate."""
    rows = [
        "| job | base | loss of step 1, ours and theirs | gradient norm, ours and theirs "
        "| worst of tensors | loss curve: rows a step, steps, worst relative difference |",
        "|---|---|---|---|---|---|",
    ]
    for records in jobs(results):
        setup, gate = one(records, "setup"), one(records, "gate")
        losses, norms = gate["first_loss"], gate["gradient_norm"]
        rows.append(
            f"| {setup['job']} | {setup['shape']} | {losses[0]:.6f}, {losses[1]:.6f} "
            f"| {norms[0]:.4f}, {norms[1]:.4f} "
            f"| {gate['gradient_relative_worst_tensor']:.1e} of {gate['tensors']} "
            f"| {gate['rows_a_step']}, {gate['curve_steps']}, "
            f"{gate['curve_relative_worst_step']:.1e} |"
        )
    return lines(rows)


def grids(results: dict[str, list[Record]]) -> str:
    """Return what each of the peer's options reached in one pass: options by jobs, real tokens a
    CPU second."""
    tried = {
        f"{setup['job']} {setup['shape']}": {
            option(r["option"]): r["tokens_per_cpu_second"] for r in records if r["kind"] == "grid"
        }
        for records in jobs(results)
        for setup in [one(records, "setup")]
    }
    names = list(dict.fromkeys(name for rates in tried.values() for name in rates))
    rows = [f"| option of the peer | {' | '.join(tried)} |", "|---|" + "--:|" * len(tried)]
    for name in names:
        cells = []
        for rates in tried.values():
            shown = f"{rates[name]:,.0f}" if name in rates else DASH
            cells.append(f"**{shown}**" if rates.get(name) == max(rates.values()) else shown)
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return lines(rows) if tried else ""


def growth(results: dict[str, list[Record]]) -> str:
    """Return how CPU seconds a row grow, a table for each of the scaling runs."""
    parts: list[str] = []
    for name in sorted(name for name in results if name.startswith("scaling-")):
        records = results[name]
        about = one(records, "about")
        parts += [
            f"{about['title']}:",
            "",
            f"| {about['unit']} | Savile | TRL + PEFT as shipped | at its best | times best |",
            "|--:|--:|--:|--:|--:|",
        ]
        for point in (r for r in records if r["kind"] == "point"):
            seconds = [f"{1e3 * point[side]:,.1f} ms" for side in ("ours", "shipped", "best")]
            ratio = span(point["ratio_to_best"])
            parts.append(f"| {point['x']:,.0f} | {' | '.join(seconds)} | {ratio} |")
        parts.append("")
    return lines(parts[:-1])


def option(name: str) -> str:
    """Return an option's name without its trainer's.

    >>> option("sft: fp32, keep pages")
    'fp32, keep pages'
    """
    return name.rpartition(": ")[2]


def rate(side: Record) -> str:
    """Return a median rate."""
    return f"{side['tokens_per_cpu_second'][0]:,.0f}"


def share(side: Record) -> str:
    """Return a median share of the matmul peak."""
    return f"{side['share_of_peak'][0]:.0%}"


def span(ratio: list[float]) -> str:
    """Return a median with its range over blocks.

    >>> span([4.26, 4.01, 4.49])
    '4.3 (4.0-4.5)'
    """
    return f"{ratio[0]:.1f} ({ratio[1]:.1f}-{ratio[2]:.1f})"
