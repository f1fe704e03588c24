"""Peak memory of chains of objectives on one copy of the base, beside LoRA SFT on the same rows.

    python bench/memory.py --shape 30M

Each chain trains in a process of its own: a random-weight Llama, LoRA, GSM8K's questions with the
first words of their answers (PPO and its relatives write as many themselves; DPO's rejected answer
is the same words backwards). The ratio is (peak - imports) / (peak of sft - imports), where
`imports` is the process before the model is loaded.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import kept
import machine
import texts
from case import write_model

CHAINS = ("sft", "dpo", "reward+ppo", "grpo", "rloo")
ROWS, STEPS, BATCH, ANSWER = 64, 6, 16, 96


def main() -> None:
    """Measure every chain, or one in this process (`--chain`)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="30M")
    parser.add_argument("--data", type=Path, default=texts.DATA)
    parser.add_argument("--chain", default=None)
    parser.add_argument("--model", type=Path, default=None)
    options = parser.parse_args()
    rows = texts.read("gsm8k", options.data)[:ROWS]
    if options.chain is not None:
        print(json.dumps(measure(options.chain, options.model, rows)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        write_model(Path(scratch), options.shape, (f"{r.question} {r.answer}" for r in rows))
        command = [sys.executable, __file__, "--data", str(options.data), "--model", scratch]
        found = [
            json.loads(
                subprocess.run([*command, "--chain", c], stdout=subprocess.PIPE, check=True).stdout
            )
            for c in CHAINS
        ]
    keep(options.shape, found)


def measure(chain: str, model: Path, asked: list[texts.Text]) -> dict[str, Any]:
    """Train one chain and return its memory in bytes."""
    from savile import registry
    from savile.chain import train_chain
    from savile.deltas.lora import LoRA
    from savile.job import Job, Plan
    from savile.ladder.rewards import by_metric
    from savile.lm.load import load
    from savile.meter import Meter
    from savile.metrics.token_f1 import TokenF1
    from savile.objectives.base import Objective
    from savile.prompts.base import Frame
    from savile.types import Example, Preference

    with Meter(Here()) as imports:
        pass
    lm = load(str(model), folder=model, device="cpu", dtype="float32")
    with Meter(lm) as base:
        pass
    rows = [
        Example(id=str(n), input=text.question, output=" ".join(text.answer.split()[:40]))
        for n, text in enumerate(asked)
    ]
    judged = [
        Preference(
            id=row.id,
            input=row.input,
            chosen=row.output,
            rejected=" ".join(reversed(row.output.split())),
            source="",
        )
        for row in rows
    ]
    frame, metric = Frame(instruction="Solve the problem."), TokenF1()
    objectives: list[Objective] = [registry.load("objectives", name)() for name in chain.split("+")]
    job = Job(
        lm=lm,
        objective=objectives[0],
        frame=frame,
        train=rows,
        dev=rows[:BATCH],
        metric=metric,
        plan=Plan(
            learning_rate=1e-4,
            examples=STEPS * BATCH * len(objectives),
            batch_size=BATCH,
            evaluations=0,
        ),
        seed=0,
        max_new_tokens=ANSWER,
        preferences=judged,
        dev_preferences=judged[:BATCH],
        reward=by_metric(lm, frame, metric),
    )
    with LoRA().attach(lm, seed=0) as attached, Meter(lm) as trained:
        done = train_chain(job, objectives, attached)
    return {
        "kind": "memory",
        "chain": chain,
        "steps": done.trained.steps,
        "tokens": done.trained.tokens,
        "imports": imports.peak_bytes,
        "base": base.peak_bytes,
        "peak": max(trained.peak_bytes or 0, done.trained.peak_bytes or 0),
    }


class Here:
    """Something on the CPU."""

    device = "cpu"


def keep(shape: str, found: list[dict[str, Any]]) -> None:
    """Write the results with their ratios to SFT."""
    own = {one["chain"]: one["peak"] - one["imports"] for one in found}
    lines = [
        machine.line(),
        *({**one, "shape": shape, "ratio": own[one["chain"]] / own["sft"]} for one in found),
    ]
    kept.write(f"memory-{shape}", lines)
    for one in lines[1:]:
        print(f"{one['chain']:<12} {one['peak'] / 1e6:7.0f} MB  {one['ratio']:.2f} x sft")


if __name__ == "__main__":
    main()
