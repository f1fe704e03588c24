"""Where a step's time goes: through transformers' modules, and through our own pass for Llamas.

    python bench/profiles.py [--peer] [--job NAME --shape NAME] [--blocks 1] [--data FOLDER]

*Before* is our general path: the same loop, trees and attention over transformers' modules. One
thread, float32, both in one process, with --peer TRL as shipped as well. First passes without the
profiler, A B B A, in CPU seconds; then passes under torch.profiler, whose time by part
(`profiling.py`) is scaled to the CPU seconds of a step without it: the profiler makes a step
longer, and its clock is the wall's, so the quietest of several passes count.
Results go to `bench/results/` as JSON lines.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch.profiler import record_function
from transformers import TrainerCallback

import grid
import kept
import machine
import profiling
import texts
from case import Case
from jobs import JOBS, PACES
from machine import Clock
from ours import Ours, prepare
from profiling import MARK, REST, Timed
from training import Record, instruction, share_of_peak

DEAREST = (("lora-long", "5M"), ("lora-short", "wide"))
"""Rows that share little, and a vocabulary of 152k."""

T = TypeVar("T")
QUIET, KEPT, TRIED = 1.05, 3, 5
"""Passes under the profiler: until three have had a core nearly to themselves, their time on the
wall at most 1.05 times their CPU time, five at most; the three quietest count, added up."""


class Side(NamedTuple):
    """One way to train on the case."""

    plain: Callable[[], Clock]
    """Runs a pass and returns what it took."""
    profiled: Callable[[], tuple[Clock, list[Timed]]]
    """Runs it under the profiler."""


def main() -> None:
    """Profile the chosen jobs and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", action="store_true", help="TRL as shipped too, minutes of CPU")
    parser.add_argument("--job", choices=[n for n, job in JOBS.items() if job.objective == "sft"])
    parser.add_argument("--shape", choices=list(PACES))
    parser.add_argument("--blocks", type=int, default=1)
    parser.add_argument("--data", type=Path, default=texts.DATA, help="folder of the data sets")
    parser.add_argument("--out", type=Path, default=kept.RESULTS, help="where the results go")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [(options.job, options.shape)] if options.job else DEAREST
    for job, shape in chosen:
        with tempfile.TemporaryDirectory() as folder:
            done = kept.shown(bench(Path(folder), job, shape, options))
            kept.write(f"profile-{job}-{shape}", done, options.out)


def bench(folder: Path, name: str, shape: str, options: argparse.Namespace) -> Iterator[Record]:
    """Yield the records of one job: passes without the profiler, then a profile of each side."""
    job = JOBS[name]
    steps = max(1, round(job.steps * PACES[shape].share))
    corpus = texts.read(job.texts, options.data)
    request = {
        "shape": shape,
        "texts": job.texts,
        "data": str(options.data),
        "instruction": instruction(job, corpus),
        "sample": texts.sample(corpus, job.batch_size * steps, seed=0),
        "learning_rate": job.learning_rate,
        "delta": job.delta,
        "objective": job.objective,
        "group": job.group,
        "written": job.written,
        "gate": [job.batch_size, 1],
        "pass": [job.batch_size, steps],
    }
    yield machine.line()
    work = prepare(folder, request)
    yield {
        "kind": "setup", "job": name, "shape": shape, "title": job.title, "steps": steps,
        "batch_size": job.batch_size, "dtype": "float32", "threads": 1, **work,
    }  # fmt: skip
    case = Case.load(folder / "pass.json")
    every = (shipped(case) if options.peer else {}) | ours(case)
    passes = []
    for block in range(options.blocks):
        for side in (*every, *reversed(every)):
            rates = machine.probe()
            took = every[side].plain()
            seconds = {"cpu_seconds": round(took.cpu, 4), "wall_seconds": round(took.wall, 4)}
            passes.append({"kind": "pass", "block": block, "side": side, **seconds, **rates})
            yield passes[-1]
    for side, ways in every.items():
        own = [record for record in passes if record["side"] == side]
        found = summary(own, quiet(ways.profiled), steps, work["useful_flop"])
        yield {"kind": "profile", "side": side, **found}


def quiet(profiled: Callable[[], tuple[Clock, T]]) -> list[tuple[Clock, T]]:
    """Return the quietest profiled passes of as many as it takes."""
    done: list[tuple[Clock, T]] = []
    while len(done) < TRIED and sum(waited(took) <= QUIET for took, _ in done) < KEPT:
        done.append(profiled())
    return sorted(done, key=lambda one: waited(one[0]))[:KEPT]


def waited(took: Clock) -> float:
    """Return how much longer a pass took than its CPU time."""
    return took.wall / took.cpu


def ours(case: Case) -> dict[str, Side]:
    """Return our general path and our own pass, warm."""
    side = Ours(case, dtype="float32")
    own = side.lm._own
    assert own is not None, "the base is not of the family that has a pass of its own"

    def through(path: Any) -> Clock:
        side.lm._own = path
        return side.run()[0]

    def general() -> tuple[Clock, list[Timed]]:
        with profiling.functions(profiling.OWN), profiling.modules(side.lm.model):
            return profiling.profiled(profiling.ranged(REST, lambda: through(None)))

    def direct() -> tuple[Clock, list[Timed]]:
        with profiling.functions(profiling.OWN):
            return profiling.profiled(profiling.ranged(REST, lambda: through(own)))

    for path in (None, own):
        through(path)
    return {
        "before": Side(lambda: through(None), general),
        "after": Side(lambda: through(own), direct),
    }


def shipped(case: Case) -> dict[str, Side]:
    """Return TRL as shipped, warm; only then is it imported."""
    from peer import Peer

    side = Peer(case, grid.OPTIONS["sft: as shipped"])
    side.trainer.add_callback(Whole())
    side.run(1)

    def profiled() -> tuple[Clock, list[Timed]]:
        with profiling.functions(profiling.PEER), profiling.modules(side.trainer.model):
            return profiling.profiled(lambda: side.run()[0])

    return {"shipped": Side(lambda: side.run()[0], profiled)}


class Whole(TrainerCallback):
    """A range around the peer's training loop."""

    def __init__(self) -> None:
        """Start outside of it."""
        self.range: record_function | None = None

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Open it: model, optimizer and data loader are ready."""
        self.range = record_function(MARK + REST)
        self.range.__enter__()  # type: ignore[no-untyped-call]

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Close it."""
        assert self.range is not None
        self.range.__exit__(None, None, None)


def summary(
    plain: list[Record], profiled: list[tuple[Clock, list[Timed]]], steps: int, useful_flop: float
) -> Record:
    """Return the seconds of a step without the profiler, its parts in proportion to those of the
    profiled passes, and what the profiler adds."""
    step = statistics.median(record["cpu_seconds"] for record in plain) / steps
    under = statistics.median(took.cpu for took, _ in profiled) / steps
    events = [event for _, every in profiled for event in every]
    parts = profiling.by_part(events)
    whole = sum(parts.values())
    return {
        "step_seconds": round(step, 5),
        "parts": {name: round(step * seconds / whole, 6) for name, seconds in parts.items()},
        "passes": len(profiled),
        "wall_to_cpu": round(max(waited(took) for took, _ in profiled), 3),
        "profiled_step_cpu_seconds": round(under, 5),
        "events_a_step": round(len(events) / len(profiled) / steps),
        "share_of_peak": round(
            statistics.median(share_of_peak(record, useful_flop) for record in plain), 4
        ),
    }


if __name__ == "__main__":
    main()
