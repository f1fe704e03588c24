"""Evaluation (B8): questions a CPU second, Savile against lm-evaluation-harness and `generate`.

    python bench/evaluation.py [--full] [--job NAME] [--growth labels|shots] [--data FOLDER]

First the gate: 100 % equal predictions in float32, and labels' log-likelihoods within 1e-4 nats; if
it fails, there is no figure. Labels: the peer is lm-evaluation-harness's HF backend as shipped and
at its best option of a batch. Text: the peers are `generate` in bfloat16 at batch 16, and the same
with a cache of what all prompts begin with, each in the better of two types. Then blocks
A B O O B A. A side's rate is questions a CPU second; a peer's time is linear in questions, so it is
given fewer of them, others in each block. Ours is timed from chats to answers, tokenization
included; a peer is given token ids. Everything runs in one process, on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import evaluation_peers as peers
import kept
import machine
import texts
from evaluation_jobs import GROWTH, JOBS, Questions, base, questions
from savile.lm.base import Asked
from savile.lm.choose import Chooser
from savile.lm.generate import greedy
from savile.lm.local import Local
from savile.lm.model import LM

TOLERANCE = 1e-4
"""Nats of a label's log-likelihood."""
BATCHES: tuple[int, ...] = (8, 64)
"""The harness's options beside what it ships with, which is 1; a quick run takes the last."""

Record = dict[str, Any]
Run = Callable[[Sequence[int]], Any]


class Sides(NamedTuple):
    """What is timed: the peers' options by the part they play, and ours."""

    peers: dict[str, dict[str, Run]]
    """For each part (`shipped`, `best`; `plain`, `cached`) the options to choose the best of."""
    ours: Run
    gate: Callable[[Sequence[int]], Record]
    """Compares answers to some questions."""


def main() -> None:
    """Measure the chosen jobs and write the results."""
    options = arguments()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name in [options.job] if options.job else JOBS:
            if not options.growth:
                done = kept.shown(bench(Path(folder), name, options))
                kept.write(f"evaluation-{name}", done, options.out)
        for name in [options.growth] if options.growth else GROWTH if options.full else ():
            done = kept.shown(grown(Path(folder), name, options))
            kept.write(f"evaluation-growth-{name}", done, options.out)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="more blocks, all options, growth")
    parser.add_argument("--job", choices=list(JOBS), help="one job only")
    parser.add_argument("--growth", choices=list(GROWTH), help="how time grows, and nothing else")
    parser.add_argument("--blocks", type=int, help="default 2, with --full 5")
    parser.add_argument("--data", type=Path, default=texts.DATA, help="folder of the data sets")
    parser.add_argument("--out", type=Path, default=kept.RESULTS, help="where the results go")
    return parser.parse_args()


def bench(folder: Path, name: str, options: argparse.Namespace) -> Iterator[Record]:
    """Yield every record of one job; exits when the gate fails."""
    job, blocks = JOBS[name], options.blocks or (5 if options.full else 2)
    corpus = texts.read(job.texts, options.data)
    yield machine.line()
    lm = base(folder, job, corpus)
    own, theirs = job.asked
    asked = questions(lm, job, corpus, max(own, 2 * theirs * blocks))
    yield {"kind": "setup", "job": name, **job._asdict(), "blocks": blocks, **sizes(asked)}
    sides = KINDS[job.asks](lm, asked, options.full)
    gate = sides.gate(range(max(theirs, 2)))
    yield gate
    if not gate["passed"]:
        sys.exit("the sides do not answer the same, so there is no figure")
    chosen = {}
    for part, ways in sides.peers.items():
        tried = [timed(way, range(theirs)) | {"option": option} for option, way in ways.items()]
        yield from ({"kind": "option", "part": part, **one} for one in tried if len(tried) > 1)
        chosen[part] = max(tried, key=lambda one: one["per_cpu_second"])["option"]
    sides.ours(range(4))  # warm
    order = [*sides.peers, "ours"]
    passes = []
    for half in range(2 * blocks):
        first = half * theirs
        for side in order if half % 2 == 0 else order[::-1]:
            run = sides.ours if side == "ours" else sides.peers[side][chosen[side]]
            rows = range(own) if side == "ours" else range(first, first + theirs)
            passes.append({"kind": "pass", "block": half // 2, "side": side, **timed(run, rows)})
            yield passes[-1] | machine.probe()
    yield summary(passes, chosen)


def sizes(asked: Questions) -> Record:
    """Return how long prompts and choices are on average."""
    mean = [
        round(statistics.mean(map(len, ids)), 1) for ids in (asked.prompts, asked.choices or [[]])
    ]
    return {"prompt_tokens": mean[0], "label_tokens": mean[1], "longest": asked.new_tokens}


def timed(run: Run, rows: Sequence[int]) -> Record:
    """Return what answering some questions takes."""
    start = machine.Clock.now()
    run(rows)
    took = machine.Clock.now().since(start)
    return {
        "questions": len(rows),
        "cpu_seconds": round(took.cpu, 4),
        "wall_seconds": round(took.wall, 4),
        "per_cpu_second": round(len(rows) / took.cpu, 4),
    }


def summary(passes: list[Record], chosen: dict[str, str]) -> Record:
    """Return rates and ratios: the median over blocks, with the smallest and the largest."""
    blocks = sorted({r["block"] for r in passes})
    rates = {
        side: [
            statistics.mean(
                r["per_cpu_second"] for r in passes if (r["block"], r["side"]) == (block, side)
            )
            for block in blocks
        ]
        for side in (*chosen, "ours")
    }
    found: Record = {"kind": "summary", "blocks": len(blocks), "options": chosen}
    found |= {side: round(statistics.median(values), 4) for side, values in rates.items()}
    for side in chosen:
        ratios = [o / p for o, p in zip(rates["ours"], rates[side], strict=True)]
        found[f"ratio_to_{side}"] = [round(f(ratios), 1) for f in (statistics.median, min, max)]
    return found


def labels(lm: LM, asked: Questions, full: bool) -> Sides:
    """Return the sides where labels are scored."""
    model = peers.plain_model(lm.model.name_or_path, torch.float32)
    shipped = peers.Harness(model, lm, 1)
    best = {f"batch {n}": peers.Harness(model, lm, n) for n in (BATCHES if full else BATCHES[-1:])}
    local = Local(lm)

    def ours(rows: Sequence[int]) -> list[str]:
        how = Asked(labels=tuple(asked.labels))
        groups = local.answers([asked.chats[row] for row in rows], how)
        found = {at: answer.text for group in groups for at, answer in group}
        return [found[at] for at in range(len(rows))]

    def gate(rows: Sequence[int]) -> Record:
        wanted = np.asarray(shipped.logprobs(asked, rows))
        prompts = [asked.prompts[row] for row in rows]
        zeros = [[0.0] * len(asked.labels)] * len(rows)
        own = Chooser(lm, asked.choices).scores(prompts, zeros).numpy()
        named = [asked.labels.index(label) for label in ours(rows)]
        same = [a == b for a, b in zip(named, wanted.argmax(1).tolist(), strict=True)]
        error = float(abs(own - wanted).max())
        top = np.sort(wanted, 1)[:, -2:].tolist()
        ties = sum(not s and b - a <= TOLERANCE for s, (a, b) in zip(same, top, strict=True))
        return {
            "kind": "gate",
            "questions": len(rows),
            "same_predictions": sum(same),
            "ties": ties,
            "logprob_error": error,
            "passed": sum(same) + ties == len(rows) and error <= TOLERANCE,
        }

    options = {name: partial_answers(way, asked) for name, way in best.items()}
    shipped_run = {"batch 1": partial_answers(shipped, asked)}
    return Sides({"shipped": shipped_run, "best": {**shipped_run, **options}}, ours, gate)


def text(lm: LM, asked: Questions, full: bool) -> Sides:
    """Return the sides where answers are written."""
    models = {
        str(kind).removeprefix("torch."): peers.plain_model(lm.model.name_or_path, kind)
        for kind in (torch.bfloat16, torch.float32)
    }
    exact = peers.Generate(models["float32"], lm, cached=False)
    exact_cached = peers.Generate(models["float32"], lm, cached=True)
    local = Local(lm)

    def ours(rows: Sequence[int]) -> list[str]:
        how = Asked(max_new_tokens=asked.new_tokens)
        groups = local.answers([asked.chats[row] for row in rows], how)
        found = {at: answer.text for group in groups for at, answer in group}
        return [found[at] for at in range(len(rows))]

    def gate(rows: Sequence[int]) -> Record:
        wanted = exact.answers(asked, rows)
        own = greedy(lm, [asked.prompts[row] for row in rows], asked.new_tokens)
        written = [lm.template.written(ids).strip() for ids in wanted]
        return {
            "kind": "gate",
            "questions": len(rows),
            "same_predictions": sum(a == b for a, b in zip(own, wanted, strict=True)),
            "same_as_cached": exact_cached.answers(asked, rows) == own,
            "tokens": sum(map(len, own)),
            "passed": own == wanted and ours(rows) == written,
        }

    ways = {
        part: {
            f"{name}, batch {peers.BATCH}": partial_answers(
                peers.Generate(model, lm, cached=part == "cached"), asked
            )
            for name, model in (models if full else {"bfloat16": models["bfloat16"]}).items()
        }
        for part in ("plain", "cached")
    }
    return Sides(ways, ours, gate)


def partial_answers(side: peers.Harness | peers.Generate, asked: Questions) -> Run:
    """Return a side as a function of the questions' numbers."""
    return lambda rows: side.answers(asked, rows)


KINDS: dict[str, Callable[[LM, Questions, bool], Sides]] = {"labels": labels, "text": text}


def grown(folder: Path, name: str, options: argparse.Namespace) -> Iterator[Record]:
    """Yield how the time of a question grows with labels or worked examples."""
    unit = {"labels": "labels", "shots": "worked examples in the prompt"}[name]
    yield machine.line()
    yield {"kind": "about", "title": f"Evaluation by {unit}", "unit": unit}
    corpus = texts.read("banking77", options.data)
    for job in GROWTH[name]:
        lm = base(folder, job, corpus)
        asked = questions(lm, job, corpus, job.asked[0])
        sides = labels(lm, asked, full=False)
        gate = sides.gate(range(1))
        if not gate["passed"]:
            sys.exit(f"the sides do not answer the same: {gate}")
        sides.ours(range(2))
        runs = {part: list(ways.values())[-1] for part, ways in sides.peers.items()}
        yield {
            "kind": "point",
            "x": getattr(job, name),
            **{part: _seconds(run, range(job.asked[1])) for part, run in runs.items()},
            "ours": _seconds(sides.ours, range(job.asked[0])),
        }


def _seconds(run: Run, rows: Sequence[int]) -> float:
    """Return the CPU seconds of a question."""
    return round(1 / timed(run, rows)["per_cpu_second"], 6)


if __name__ == "__main__":
    main()
