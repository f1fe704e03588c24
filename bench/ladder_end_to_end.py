"""A whole ladder on Banking77, against the same techniques one after another through TRL + PEFT.

    python bench/ladder_end_to_end.py [--instruction short|labels] [--blocks 5] [--scratch FOLDER]

First the gate: both sides really run a small subset (few classes, the same rows, learning rates,
presentations and prompts), and the best technique of each must be tied with that of the other.
Then `savile run` does the whole ladder with each technique's search. The peer's side of that would
take hours, so it is extrapolated: what a presentation and an answered question cost through TRL +
PEFT as shipped is measured in blocks, and multiplied by the presentations and questions that our
run folder records. What PEFT does not have (the bottleneck adapter) is priced as LoRA.

Seconds are CPU seconds of whole processes. Raw results go to `bench/results/` as JSON lines.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import kept
import machine
from ladder_records import Record, gate, ledger, priced, summary
from ladder_rows import asked_of

BENCH = Path(__file__).resolve().parent
DATA = BENCH.parent.parent / "shared" / "data" / "banking77"
LADDER = (
    "[zero_shot, {few_shot: {k: 4}}, {few_shot: {k: 8}}, prompt_tuning, bottleneck, lora, full]"
)
SHORT = "Classify the customer's message."
LONG = "Classify the customer's message into exactly one of these intents: {labels}."


def main() -> None:
    """Run the gate, then both sides, and write what was found."""
    options = arguments()
    given = {k: v for k, v in vars(options).items() if not isinstance(v, Path)}
    records: list[Record] = [machine.line(), {"kind": "setup", "data": "banking77", **given}]
    with tempfile.TemporaryDirectory() as temporary:
        scratch = options.scratch or Path(temporary)
        small, whole = scratch / "small", scratch / "whole"
        done = ours(small, options, options.gate_classes, options.gate_rows, options.gate_examples)
        asked = asked_of(small / "task.yaml", small / "run", rows=None, runs=True)
        passed = gate(asked, peer(small, asked | {"blocks": 0}, options.threads))
        records.append(passed)
        print(json.dumps(passed), flush=True)
        if not passed["passed"]:
            sys.exit("the two sides do not find the same best technique, so there is no figure")
        if not options.gate_only:
            done = ours(whole, options, options.classes, options.rows, options.examples)
            works = ledger(whole / "run")
            asked = asked_of(whole / "task.yaml", whole / "run", rows=options.questions, runs=False)
            told = peer(whole, asked | {"blocks": options.blocks}, options.threads)
            costs = [priced(works, told, block) for block in range(options.blocks)]
            records += [*works, *told, summary(done, costs)]
            print(json.dumps(records[-1]))
    kept.write(f"ladder-{options.instruction}", records, options.results)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instruction", choices=["short", "labels"], default="short")
    parser.add_argument("--base", default="embedded")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--classes", type=int, help="default: all 77")
    parser.add_argument("--rows", type=int, help="test rows; train has three times as many")
    parser.add_argument("--examples", type=int, help="default: the ladder's own budget")
    parser.add_argument("--questions", type=int, default=8, help="questions of a block")
    parser.add_argument("--gate-classes", type=int, default=4)
    parser.add_argument("--gate-rows", type=int, default=120)
    parser.add_argument("--gate-examples", type=int, default=1920)
    parser.add_argument("--gate-only", action="store_true")
    parser.add_argument("--ladder", default=LADDER)
    parser.add_argument("--scratch", type=Path, help="keeps our finished runs for another call")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, default=BENCH / "results")
    found = parser.parse_args()
    if not (DATA / "train.csv").is_file():
        sys.exit(
            f"no Banking77 data: {DATA} has no train.csv. Nothing is measured on made-up text."
        )
    return found


def ours(
    folder: Path,
    options: argparse.Namespace,
    classes: int | None,
    rows: int | None,
    examples: int | None,
) -> float:
    """Run the ladder on some classes and rows; return its CPU seconds."""
    if (finished := folder / "cpu_seconds.json").is_file():
        return float(json.loads(finished.read_text(encoding="utf-8")))
    folder.mkdir(parents=True)
    labels: list[str] = []
    for name, most in (("train", None if rows is None else 3 * rows), ("test", rows)):
        with (DATA / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            found = list(csv.DictReader(file))
        labels = labels or sorted({row["category"] for row in found})[:classes]
        chosen = [row for row in found if row["category"] in labels]
        step = max(1, len(chosen) // most) if most else 1  # the files are sorted by class
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["text", "category"])
            writer.writeheader()
            writer.writerows(
                {key: row[key].strip() for key in writer.fieldnames} for row in chosen[::step]
            )
    words = SHORT if options.instruction == "short" else LONG.format(labels=", ".join(labels))
    spec = {
        "task": "banking77",
        "base": options.base,
        "data": {
            "train": "train.csv",
            "test": "test.csv",
            "input": "text",
            "output": "category",
            "leak": "drop_train",
        },
        "prompt": {"instruction": words, "labels": "auto"},
        "metric": "accuracy",
        "compute": {"threads": options.threads, "device": "cpu"},
        "seed": 0,
        "seeds": 1,
    }
    if examples is not None:
        spec["budget"] = {"train_examples": examples}
    text = f'{json.dumps(spec, indent=1)[:-2]},\n "ladder": {options.ladder}}}\n'  # JSON is YAML
    (folder / "task.yaml").write_text(text, encoding="utf-8")
    command = ["-m", "savile", "run", str(folder / "task.yaml"), "--out", str(folder / "run")]
    taken = cpu_seconds([*command, "--quiet"], options.threads)
    finished.write_text(json.dumps(taken), encoding="utf-8")
    return taken


def peer(folder: Path, asked: dict[str, Any], threads: int) -> list[Record]:
    """Ask the peer and return what it told."""
    (folder / "asked.json").write_text(json.dumps(asked), encoding="utf-8")
    cpu_seconds([str(BENCH / "ladder_peer.py"), str(folder)], threads)
    told: list[Record] = json.loads((folder / "told.json").read_text(encoding="utf-8"))
    return told


def cpu_seconds(command: list[str], threads: int) -> float:
    """Run a Python process and return its user and system seconds; exits with its last words."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *command],
        env=machine.environment(threads),
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
