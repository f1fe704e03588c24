"""Training jobs (`jobs.py`): real tokens a CPU second, Savile against TRL + PEFT.

    python bench/training.py [--full] [--job NAME] [--shape NAME] [--data FOLDER]

First the equality gate (`gate.py`); if it fails, nothing is measured. Then the peer's own options
once each (`grid.py`), then blocks A B O O B A of the peer as shipped (A), the peer at its best (B)
and ours (O), each in a process that stays in memory; with a wide vocabulary transformers' own
Trainer is a third peer. The ratio of a block is a ratio of CPU seconds for the same rows. Raw
results go to `bench/results/` as JSON lines.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import grid
import kept
import machine
import texts
from jobs import JOBS, PACES, QUICK, Job
from worker import Worker

QUICK_STEPS = 2

Record = dict[str, Any]


class Effort(NamedTuple):
    """How thoroughly a job is measured."""

    full: bool
    """Whether the whole grid of the peer's options is tried."""
    steps: int
    """Optimizer steps of a timed pass."""
    blocks: int
    gate_steps: int
    threads: int = 1


class Side(NamedTuple):
    """A process and what it runs there."""

    side: str
    option: str = ""

    def worker(self, folder: Path, threads: int) -> Worker:
        """Start its process."""
        option = grid.OPTIONS.get(self.option)
        return Worker(self.side, folder, option and option.environment, threads)


def main() -> None:
    """Measure one job, or those of a quick or a full run, and write the results.

    A job that fails does not keep the others from being measured.
    """
    options, failed = arguments(), []
    chosen = [options.job] if options.job else list(JOBS) if options.full else list(QUICK)
    for name in chosen:
        job = JOBS[name]
        every = job.shapes if options.full else job.shapes[:1]
        for shape in [options.shape] if options.shape else every:
            try:
                done = kept.shown(run(name, shape, options))
                kept.write(f"training-{name}-{shape}", done, options.out)
            except SystemExit as problem:
                failed.append(f"{name} {shape}: {problem}")
                print(failed[-1], file=sys.stderr)
    if failed:
        sys.exit(f"{len(failed)} without a figure: {'; '.join(failed)}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="all jobs and shapes, the whole grid")
    parser.add_argument("--job", choices=list(JOBS), help="one job only")
    parser.add_argument("--shape", choices=list(PACES), help="one shape only")
    parser.add_argument("--blocks", type=int, help="default 3, with --full 5")
    parser.add_argument("--steps", type=int, help="optimizer steps of a timed pass")
    parser.add_argument("--gate-steps", type=int, help="optimizer steps of the gate's loss curve")
    parser.add_argument("--data", type=Path, default=texts.DATA, help="folder of the data sets")
    parser.add_argument("--out", type=Path, default=kept.RESULTS, help="where the results go")
    parser.add_argument("--threads", type=int, default=1, help="threads of each side")
    return parser.parse_args()


def run(name: str, shape: str, options: argparse.Namespace) -> Iterator[Record]:
    """Yield every record of one job at one shape."""
    job, pace = JOBS[name], PACES[shape]
    full_steps = max(1, round(job.steps * pace.share))
    effort = Effort(
        full=options.full,
        steps=options.steps or (full_steps if options.full else min(QUICK_STEPS, full_steps)),
        blocks=options.blocks or (5 if options.full else 3),
        gate_steps=options.gate_steps or pace.gate_steps,
        threads=options.threads,
    )
    corpus = texts.read(job.texts, options.data)
    yield machine.line()
    yield from bench({"job": name, "shape": shape}, job, corpus, effort, options.data)


def bench(
    about: Record, job: Job, rows: list[texts.Text], effort: Effort, data: Path
) -> Iterator[Record]:
    """Yield the records of one measurement; exits when the gate fails.

    Args:
        about: what tells it from other measurements: `job`, `shape`.
        job: what is trained.
        rows: what the timed rows are drawn from.
        effort: how thoroughly.
        data: folder of the data sets, from which the tokenizer learns.
    """
    gate_batch = min(job.gate_rows, job.batch_size)
    setup = {
        **about,
        "title": job.title,
        "goal": job.goal,
        "delta": job.delta,
        "objective": job.objective,
        "learning_rate": job.learning_rate,
        "group": job.group,
        "written": job.written,
        "gate": [gate_batch, effort.gate_steps],
        "pass": [job.batch_size, effort.steps],
        "rows": job.batch_size * effort.steps,
        "blocks": effort.blocks,
        "full": effort.full,
        "threads": effort.threads,
    }
    needed = max(gate_batch * effort.gate_steps, setup["rows"]) // job.group
    case = {
        "texts": job.texts,
        "data": str(data),
        "instruction": instruction(job, rows),
        "sample": texts.sample(rows, needed, seed=0),
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with Worker("peer", folder, None, effort.threads) as worker:
            setup |= worker.ask(do="prepare", **setup, **case)
            yield {"kind": "setup", **setup}
            gate = worker.ask(do="gate")
            yield gate
        if not gate["passed"]:
            sys.exit("the two sides do not compute the same, so there is no figure")
        tokens_a_row = setup["tokens"] / setup["rows"]
        tried = list(tries(folder, grid.tried(job, tokens_a_row, full=effort.full), effort))
        yield from tried
        rivals = list(tries(folder, grid.trainers(job, about["shape"]), effort))
        yield from rivals
        sides = {
            "shipped": Side("peer", grid.shipped(job)),
            "best": Side("peer", fastest(tried)),
            **({"trainer": Side("peer", fastest(rivals))} if rivals else {}),
            "ours": Side("ours"),
        }
        passes = []
        for record in blocks(folder, sides, effort):
            passes.append(record)
            yield record
        named = {name: side.option for name, side in sides.items()}
        yield summary(passes, named, setup["useful_flop"])


def instruction(job: Job, rows: list[texts.Text]) -> str:
    """Return a job's instruction with the labels that its rows have."""
    return job.instruction.format(labels=", ".join(sorted({row.answer for row in rows})))


def tries(folder: Path, options: Iterable[str], effort: Effort) -> Iterator[Record]:
    """Yield what each of the peer's options reaches in one pass; those that need the same
    environment share a process."""
    with contextlib.ExitStack() as stack:
        workers: dict[bool, Worker] = {}
        for name in options:
            environment = grid.OPTIONS[name].environment
            if (environment is None) not in workers:
                started = Side("peer", name).worker(folder, effort.threads)
                workers[environment is None] = stack.enter_context(started)
            measured = workers[environment is None].ask(do="run", option=name)
            yield {"kind": "grid", "option": name, **measured}


def fastest(tried: Iterable[Record]) -> str:
    """Return the option with the highest rate."""
    found: str = max(tried, key=lambda record: record["tokens_per_cpu_second"])["option"]
    return found


def blocks(folder: Path, sides: Mapping[str, Side], effort: Effort) -> Iterator[Record]:
    """Yield the passes of all blocks: every side in turn, and back."""
    with contextlib.ExitStack() as stack:
        workers = {
            name: stack.enter_context(side.worker(folder, effort.threads))
            for name, side in sides.items()
        }
        for block in range(effort.blocks):
            for name in (*sides, *reversed(sides)):
                measured = workers[name].ask(do="run", option=sides[name].option)
                yield {"kind": "pass", "block": block, "side": name, **measured}


def summary(passes: list[Record], options: Mapping[str, str], useful_flop: float) -> Record:
    """Return rates, ratios and shares of peak: the median over blocks, the smallest, the largest.

    Args:
        passes: of all sides.
        options: what each side ran.
        useful_flop: of one pass; the peak is the better of the two probes beside it.
    """
    numbers = sorted({r["block"] for r in passes})
    result: Record = {"kind": "summary", "options": dict(options), "blocks": len(numbers)}
    of_block = {
        side: [[r for r in passes if (r["block"], r["side"]) == (b, side)] for b in numbers]
        for side in options
    }
    rates = {side: [rate(group) for group in groups] for side, groups in of_block.items()}
    for side, groups in of_block.items():
        every = [r for group in groups for r in group]
        result[side] = {
            "tokens_per_cpu_second": spread(rates[side], 1),
            "tokens_per_second": spread([r["tokens"] / r["wall_seconds"] for r in every], 1),
            "share_of_peak": spread([share_of_peak(r, useful_flop) for r in every], 4),
        }
    for side in options.keys() - {"ours"}:
        ratios = [o / p for o, p in zip(rates["ours"], rates[side], strict=True)]
        result[f"ratio_to_{side}"] = spread(ratios, 2)
    return result


def rate(passes: list[Record]) -> float:
    """Return real tokens a CPU second over some passes."""
    tokens: int = sum(r["tokens"] for r in passes)
    seconds: float = sum(r["cpu_seconds"] for r in passes)
    return tokens / seconds


def share_of_peak(measured: Record, useful_flop: float) -> float:
    """Return useful FLOP a CPU second as a share of the probe's."""
    peak = max(measured[f"probe_{name}_gflop_per_cpu_second"] for name in ("fp32", "bf16"))
    share: float = useful_flop / measured["cpu_seconds"] / (1e9 * peak)
    return share


def spread(values: list[float], digits: int) -> list[float]:
    """Return median, smallest and largest."""
    return [round(f(values), digits) for f in (statistics.median, min, max)]


if __name__ == "__main__":
    main()
