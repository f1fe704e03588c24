"""What the records say of a goal: its figures, each with the gate that stands before it.

A reader is a function from all results to figures; no records give no figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import evaluation_table
import ladder_table
import training_table
from board_table import one
from training_table import option, span


class Figure(NamedTuple):
    """One measured figure."""

    value: float
    shown: str
    gate: str
    """What was found equal, or what else must be known beside it."""
    where: str = ""
    """Which of several it is."""


Record = dict[str, Any]
Results = dict[str, list[Record]]
Reader = Callable[[Results], list[Figure]]
TRAINING, EVALUATION, OVERHEAD = "training-", "evaluation-", "overhead-"
HEAVY = frozenset({"torch", "transformers"})
BF16 = "bf16"


def training(job: str, shape: str, side: str) -> Reader:
    """Read a training job's ratio to one of the peer's sides."""

    def read(results: Results) -> list[Figure]:
        records = results.get(f"{TRAINING}{job}-{shape}", [])
        ratio = _summary(records).get(f"ratio_to_{side}")
        if ratio is None:
            return []
        named = option(one(records, "summary")["options"][side])
        return [Figure(ratio[0], span(ratio), f"{compared(records)}; {named}")]

    return read


def trainer_bf16(job: str, shape: str) -> Reader:
    """Read a training job's ratio to transformers' Trainer in bfloat16, from the passes in which
    the peers' options were tried: the blocks are run against the best option, whatever its type."""

    def read(results: Results) -> list[Figure]:
        records = results.get(f"{TRAINING}{job}-{shape}", [])
        tried = {
            r["option"]: r["tokens_per_cpu_second"]
            for r in records
            if r["kind"] == "grid" and "Trainer" in r["option"] and BF16 in r["option"]
        }
        found = _summary(records)
        if not tried or not found:
            return []
        best = max(tried, key=lambda name: tried[name])
        ratio = found["ours"]["tokens_per_cpu_second"][0] / tried[best]
        return [Figure(ratio, f"{ratio:.1f} (one pass)", f"{compared(records)}; {best}")]

    return read


def compared(records: list[Record]) -> str:
    """Return the gate's errors of a training job, and how thoroughly it was measured."""
    gate, setup = one(records, "gate"), one(records, "setup")
    errors = ", ".join(f"{gate[name]:.0e}" for name in training_table.ERRORS)
    grid = "whole grid" if setup["full"] else "likely options alone"
    return f"{errors}; {_blocks(setup)}, {grid}"


def shares(*shapes: str) -> Reader:
    """Read our useful share of the matmul peak in every training job of some shapes."""

    def read(results: Results) -> list[Figure]:
        found = []
        for records in training_table.jobs(results):
            setup, ours = one(records, "setup"), _summary(records).get("ours")
            if setup["shape"] in shapes and ours is not None:
                where = f"{setup['job']} {setup['shape']}"
                share = ours["share_of_peak"][0]
                found.append(Figure(share, f"{share:.0%}", "of the probe beside each pass", where))
        return found

    return read


def evaluation(job: str, part: str) -> Reader:
    """Read an evaluation job's ratio to one of the peers' parts."""

    def read(results: Results) -> list[Figure]:
        records = results.get(f"{EVALUATION}{job}", [])
        ratio = _summary(records).get(f"ratio_to_{part}")
        if ratio is None:
            return []
        gate = evaluation_table.gated(one(records, "gate"))
        told = f"{gate}; {_blocks(one(records, 'setup'))}"
        chosen = one(records, "summary")["options"][part]
        return [Figure(ratio[0], span(ratio), f"{told}; {chosen}")]

    return read


def predictions(results: Results) -> list[Figure]:
    """Read how many answers of all evaluations were the peer's; labels that tie count as equal."""
    gates = [
        one(records, "gate")
        for name, records in results.items()
        if name.startswith(EVALUATION) and not name.startswith(evaluation_table.GROWTH)
    ]
    same = sum(gate["same_predictions"] + gate.get("ties", 0) for gate in gates)
    of = sum(gate["questions"] for gate in gates)
    gate = f"{len(gates)} evaluations"
    return [Figure(same / of, f"{same} of {of}", gate)] if gates else []


def ladder(instruction: str, to: str) -> Reader:
    """Read our seconds for the whole ladder as a multiple of the peer's for something."""

    def read(results: Results) -> list[Figure]:
        records = results.get(f"ladder-{instruction}", [])
        ratio = _summary(records).get(f"ours_to_{to}")
        if ratio is None:
            return []
        shown = f"{ratio[0]:.3g} ({min(ratio):.3g}-{max(ratio):.3g})"
        of = [f"{ladder_table.intents(r)}; " for r in records if r["kind"] == "setup"]
        told = f"{winners(records)}; {''.join(of)}the peer's side extrapolated"
        return [Figure(ratio[0], shown, told)]

    return read


def same_winners(results: Results) -> list[Figure]:
    """Read whether each side's best technique was tied with the other's."""
    found = []
    for name, records in results.items():
        for gate in (r for r in records if r["kind"] == "gate" and name.startswith("ladder-")):
            said = "yes" if gate["passed"] else "no"
            where = name.removeprefix("ladder-")
            found.append(Figure(float(gate["passed"]), said, winners(records), where))
    return found


def winners(records: list[Record]) -> str:
    """Return the best technique of each side."""
    gate = one(records, "gate")
    both = " and ".join(gate["best"][side] for side in ("ours", "peer"))
    return f"winners {both}, {gate['rows']} rows"


def races(key: str, shown: str) -> Reader:
    """Read one figure of every kind of replayed race."""

    def read(results: Results) -> list[Figure]:
        found = [r for r in results.get("racing", []) if r["kind"] == "replays"]
        if not found:
            return []
        fewest, regret = min(r["replays"] for r in found), max(r["regret"] for r in found)
        gate = f"{fewest} replays each; mean regret at most {regret:.3f}"
        return [
            Figure(
                r[key],
                format(r[key], shown),
                gate,
                f"{r['task']}, {r['ladder']}, margin {r['margin']:g}",
            )
            for r in found
        ]

    return read


def imports(results: Results) -> list[Figure]:
    """Read how many of the torch-free commands import torch or transformers."""
    return [
        Figure(
            len(HEAVY.intersection(r["heavy_modules"])),
            ", ".join(sorted(HEAVY.intersection(r["heavy_modules"]))) or "none",
            f"{r['runs']} runs",
            r["command"].removeprefix("savile "),
        )
        for r in results.get("startup", [])
        if r["kind"] == "startup"
    ]


def start(command: str) -> Reader:
    """Read the CPU seconds of a command that has nothing to do."""

    def read(results: Results) -> list[Figure]:
        return [
            Figure(r["cpu_seconds_median"], f"{r['cpu_seconds_median']:.2f} s", f"{r['runs']} runs")
            for r in results.get("startup", [])
            if r["kind"] == "startup" and r["command"] == command
        ]

    return read


def overheads(results: Results) -> list[Figure]:
    """Read the ladder's own share of its seconds, case by case."""
    return [
        Figure(r["overhead"], f"{r['overhead']:.1%}", f"{r['total']:,.0f} CPU seconds", r["case"])
        for name, records in sorted(results.items())
        for r in records
        if name.startswith(OVERHEAD) and r["kind"] == "overhead"
    ]


def nothing(results: Results) -> list[Figure]:
    """Read nothing: what has no records has no figures."""
    return []


def _blocks(setup: Record) -> str:
    return f"{setup['blocks']} block{'s' if setup['blocks'] > 1 else ''}"


def _summary(records: Sequence[Record]) -> Record:
    """Return the summary, empty where a measurement ended without one."""
    return next((r for r in records if r["kind"] == "summary"), {})
