"""Peak memory that a run expects of each technique, beside the peak that it measures.

    python bench/memory_estimates.py [--shapes 5M 30M] [--techniques 'lora, full']

One short `savile run` a shape: a random-weight Llama, GSM8K's questions with the first words of
their answers, every kind of delta, and chains that compare or write answers. The expected use is
counted before a trial runs (`ladder/needs.py`); the goal is to be within a factor of 1.5 of the
measured one, which is that of the whole process: imports, base and all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kept
import machine
import texts
from case import write_model

TECHNIQUES = (
    "zero_shot, {few_shot: {k: 4}}, prompt_tuning, p_tuning, prefix_tuning, bottleneck, lora, "
    "dora, pissa, ia3, bitfit, layer_norm, last_layers, full, lora+soup, lora+dpo, "
    "lora+sft+reward+ppo, lora+sft+grpo"
)
ROWS = {"train": 64, "dev": 16, "test": 8}
EXAMPLES = 48
"""Presentations of a training: a step of 16 for each of a chain of three."""
WORDS = 20


def main() -> None:
    """Run every shape and write expected and measured peaks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", default=["5M", "30M"])
    parser.add_argument("--techniques", default=TECHNIQUES)
    parser.add_argument("--data", type=Path, default=texts.DATA)
    parser.add_argument("--results", type=Path, default=kept.RESULTS)
    options = parser.parse_args()
    records = [machine.line()]
    for shape in options.shapes:
        with tempfile.TemporaryDirectory() as scratch:
            rows = texts.read("gsm8k", options.data)[: sum(ROWS.values())]
            write_case(Path(scratch), shape, rows, options.techniques)
            for record in measured(Path(scratch)):
                records.append({"kind": "peak", "shape": shape, **record})
                ratio = record["expected"] / record["measured"]
                print(shape, record["technique"], f"{ratio:.2f} of the measured peak", flush=True)
    kept.write("memory-estimates", records, options.results)


def write_case(folder: Path, shape: str, rows: list[texts.Text], techniques: str) -> None:
    """Write base, rows, preferences and spec."""
    write_model(folder / "base", shape, (f"{row.question} {row.answer}" for row in rows))
    start, judged = 0, []
    for name, n in ROWS.items():
        part = [(r.question, " ".join(r.answer.split()[:WORDS])) for r in rows[start : start + n]]
        start += n
        own = [{"input": question, "output": answer} for question, answer in part]
        write(folder / f"{name}.jsonl", own)
        if name != "test":
            judged += [
                {"prompt": q, "chosen": a, "rejected": " ".join(reversed(a.split()))}
                for q, a in part
            ]
    write(folder / "judged.jsonl", judged)
    lines = [
        "task: memory",
        "base: base",
        "data:",
        "  {train: train.jsonl, dev: dev.jsonl, test: test.jsonl, leak: allow,",
        "  preferences: judged.jsonl}",
        "prompt: {instruction: Solve the problem.}",
        "metric: token_f1",
        f"budget: {{train_examples: {EXAMPLES}, search: 1}}",
        "compute: {threads: 1, device: cpu, dtype: float32}",
        "seeds: 1",
        f"ladder: [{techniques}]",
    ]
    (folder / "task.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write(file: Path, rows: list[dict[str, str]]) -> None:
    """Write rows as JSON lines."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def measured(folder: Path) -> Iterator[dict[str, Any]]:
    """Run the case and yield what each trial expected and what it took."""
    command = [sys.executable, "-m", "savile", "run", str(folder / "task.yaml"), "--quiet"]
    settings = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [*command, "--out", str(folder / "run")],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    for file in sorted((folder / "run" / "trials").glob("*/result.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        if result["status"] != "ok" or result["expected_bytes"] is None:
            print(f"{result['technique']}: {result['status']}, {result['reason']}")
            continue
        yield {
            "technique": result["technique"],
            "expected": result["expected_bytes"],
            "measured": result["peak_bytes"],
            "seconds": round(result["unit_seconds"], 2),
        }


if __name__ == "__main__":
    main()
