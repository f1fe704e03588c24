"""Whether the run folder's volume has room for what a plan will write, before anything trains.

    bytes = sum over techniques of seeds x (weights + frame + answers to dev and test)
            + BOOKKEEPING of every unit

Weights are counted on the delta itself, attached for the purpose; answers as they are written to
disk, each with the wanted text in the place of the model's. Units that an earlier session committed
are there already and need nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from statistics import fmean
from typing import Final

from savile import store
from savile.errors import EnvironmentProblem, Problem
from savile.ladder.bench import Bench
from savile.ladder.folder import RunFolder, unit_id
from savile.ladder.plan import Cell
from savile.ladder.trial import Outcome, guarded
from savile.ladder.written import frame_json
from savile.prompts.base import Frame
from savile.spec import Candidate
from savile.technique import Technique, build
from savile.types import Prediction

BOOKKEEPING: Final = 1_500
"""Bytes of a unit's result and manifest: 700 for answers to the test, 1,900 for a training."""
SAMPLE: Final = 100
"""Rows whose answers stand for those of all."""


def check(
    folder: RunFolder, cells: Sequence[Cell], candidates: Sequence[Candidate], bench: Bench, n: int
) -> None:
    """Refuse a plan that the volume of the run folder has no room for.

    Args:
        folder: where the run writes.
        cells: the plan.
        candidates: its techniques.
        bench: the base and the rows.
        n: test rows.

    Raises:
        EnvironmentProblem: with the bytes that are needed and those that are free.
    """
    by_name = {candidate.name: candidate for candidate in candidates}
    need = sum(
        bytes_of(folder, cell, by_name[cell.technique], bench, n) for cell in cells if cell.seeds
    )
    free = store.free_bytes(folder.path)
    if free is not None and need > free:
        raise EnvironmentProblem(
            Problem(
                where=str(folder.path),
                what="no space for what this run will write",
                found=f"{free:,} bytes free",
                expected=f"about {need:,} bytes",
                fix="Free some space, give a folder on another volume with --out, or leave "
                "techniques out with --skip",
            )
        )


def bytes_of(folder: RunFolder, cell: Cell, candidate: Candidate, bench: Bench, n: int) -> int:
    """Return the bytes that one technique has still to write."""
    bench = bench.on(candidate.base)
    name, pieces = candidate.name, cell.tries if cell.piece else 0
    trials, measured, searched = (
        [unit for unit in units if not (folder.path / unit).exists()]
        for units in (
            [f"trials/{unit_id(name, seed)}" for seed in range(cell.seeds)],
            [f"measured/{unit_id(name, seed)}" for seed in range(cell.seeds)],
            [f"trials/{unit_id(name, 0, piece)}" for piece in range(pieces)],
        )
    )
    technique = build(candidate, bench.frame)
    frame = technique.frame(bench.frame, bench.train, bench.seed_of(0, "prompt"))
    answer = _answer_bytes(frame, bench)
    weights = _weights(bench, technique) if trials else 0
    trial = weights + len(frame_json(frame)) + answer * len(bench.dev)
    units = len(trials) + len(measured) + len(searched)
    return int(trial * len(trials) + answer * n * len(measured)) + BOOKKEEPING * units


def _answer_bytes(frame: Frame, bench: Bench) -> float:
    """Return the mean bytes of a written answer, 0 without rows to judge by."""
    lines = [
        store.dump_json(
            asdict(
                Prediction(
                    id=row.id,
                    text=frame.target(row),
                    answer=row.output,
                    prompt_tokens=100,
                    completion_tokens=10,
                )
            ),
            indent=None,
        )
        for row in islice((*bench.dev, *bench.train), SAMPLE)
    ]
    return fmean(map(len, lines)) if lines else 0.0


def _weights(bench: Bench, technique: Technique) -> int:
    """Return the bytes of a trained delta; 0 for one that cannot be attached, which says why."""
    delta = technique.delta
    if delta is None:
        return 0

    def count() -> Outcome:
        with delta.attach(bench.lm, bench.seed_of(0, "delta")) as attached:
            own = sum(p.numel() * p.element_size() for p in attached.parameters().values())
        kept = 1 + any(objective.compares for objective in technique.objectives)
        return Outcome(result={"bytes": own * kept})

    return int(guarded(count).result.get("bytes", 0))
