"""Which learning rate a tuned technique should start its search from: a sweep on a bundled case.

    python bench/soft_prompt_rates.py p_tuning '{p_tuning: {encoder_reparameterization_type: MLP}}'
    python bench/soft_prompt_rates.py prompt_tuning --rates 0.1 1 10 --seeds 1

Techniques are written as in a spec's ladder. Every one is trained with every rate and seed for the
same steps on the same rows and judged on dev at the end; the test rows stay sealed. The results go
to `bench/results/<date>-soft-prompt-rates-<deltas>-<case>-<base>.jsonl`: a line for each training,
and one for each technique and rate.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from statistics import fmean
from typing import Any

import kept
import machine
from savile import data, spec
from savile.deltas.base import Delta
from savile.job import Job, Plan
from savile.ladder.bases import open_base
from savile.ladder.bench import Bench, bench_of
from savile.objectives.sft import SFT
from savile.predict import answer_limit
from savile.technique import build
from savile.train import train

RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
BATCH_SIZE = 16
STEPS = 375
"""The ladder's least share: 6,000 presentations."""
SHOWN = ("technique", "learning_rate", "dev_scores", "dev_losses")

Record = dict[str, Any]


def main() -> None:
    """Measure and write the results."""
    options = arguments()
    records = []
    for record in sweep(options):
        records.append(record)
        if record["kind"] == "rate":
            print(json.dumps({key: record[key] for key in SHOWN}), flush=True)
    deltas = "-".join(dict.fromkeys(r["delta"] for r in records if r["kind"] == "rate"))
    setup = f"{options.case}-{options.base}"
    kept.write(f"soft-prompt-rates-{deltas}-{setup}", records)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("techniques", nargs="+", help="items of a ladder that train a delta")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--case", default="hard_routing", help="a bundled case")
    parser.add_argument("--base", default="embedded")
    return parser.parse_args()


def sweep(options: argparse.Namespace) -> Iterator[Record]:
    """Yield every record."""
    path = Path(str(resources.files("savile") / "embedded" / "cases" / options.case / "task.yaml"))
    ladder = f"ladder=[{', '.join(options.techniques)}]"
    task = spec.load(path, [ladder, f"base={options.base}"])
    rows = data.load(task)
    bench = bench_of(task, rows, open_base(task.base, task.folder, task.compute))
    yield machine.line()
    yield {
        "kind": "setup",
        "task": task.task,
        "base": task.base,
        "train_rows": len(bench.train),
        "dev_rows": len(bench.dev),
        "steps": options.steps,
        "batch_size": BATCH_SIZE,
        "seeds": options.seeds,
    }
    for candidate in task.candidates(rows.gives, len(bench.train)):
        delta = build(candidate, bench.frame).delta
        if delta is None or candidate.reason is not None:
            raise SystemExit(f"{candidate.name}: {candidate.reason or 'trains no delta'}")
        delta_name = "+".join(name for name, _ in candidate.deltas)
        for rate in sorted(options.rates):
            runs = [once(bench, delta, rate, seed, options.steps) for seed in range(options.seeds)]
            named = {"technique": candidate.name, "delta": delta_name, "learning_rate": rate}
            yield from ({"kind": "training", **named, **run} for run in runs)
            yield {"kind": "rate", **named, **summary(runs)}


def once(bench: Bench, delta: Delta, rate: float, seed: int, steps: int) -> Record:
    """Train one delta with one rate and seed; return its score and loss on dev."""
    plan = Plan(
        learning_rate=rate,
        examples=steps * BATCH_SIZE,
        batch_size=BATCH_SIZE,
        evaluations=1,
    )
    start = machine.Clock.now()
    with delta.attach(bench.lm, bench.seed_of(seed, "delta")) as attached:
        job = Job(
            lm=bench.lm,
            objective=SFT(),
            frame=bench.frame,
            train=bench.train,
            dev=bench.dev,
            metric=bench.metric,
            plan=plan,
            seed=bench.seed_of(seed, "train"),
            max_new_tokens=answer_limit(bench.base, bench.frame, bench.train),
        )
        trained = train(job, attached)
    return {
        "seed": seed,
        "status": trained.status,
        "dev_score": trained.dev_score,
        "dev_loss": trained.dev_loss,
        "cpu_seconds": round(machine.Clock.now().since(start).cpu, 2),
    }


def summary(runs: list[Record]) -> Record:
    """Return one rate's scores and losses over the seeds."""
    good = [run for run in runs if run["dev_score"] is not None]
    return {
        "dev_scores": [run["dev_score"] for run in runs],
        "dev_losses": [run["dev_loss"] for run in runs],
        "mean_dev_score": fmean(run["dev_score"] for run in good) if good else None,
        "mean_dev_loss": fmean(run["dev_loss"] for run in good) if good else None,
        "cpu_seconds": round(sum(run["cpu_seconds"] for run in runs), 2),
    }


if __name__ == "__main__":
    main()
