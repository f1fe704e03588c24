"""A business case of a few seconds: a random tiny base in a folder, short rows, two labels."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from savile.errors import InterruptedRun
from savile.ladder.progress import Step
from tests import tiny

NOUNS = ("cup", "jar", "hat", "map", "key", "pen", "toy", "bag", "box", "fan", "net", "rug")
VERBS = ("lost", "broke", "want", "sent", "paid", "found", "sold", "need", "kept", "took")
LADDER = "[zero_shot, {few_shot: {k: 2}}, {lora: {learning_rate: 0.02}}, {prompt_tuning: {}}]"


def write_base(folder: Path, *, seed: int = 3, family: str = "llama") -> Path:
    """Save a random tiny model with its byte tokenizer."""
    tiny.model(family, seed=seed, scale=1.0).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def write_case(folder: Path, base: Path, *, ladder: str = LADDER, more: Sequence[str] = ()) -> Path:
    """Write task.yaml and its rows; the label says whether the noun starts with a letter to `k`."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [(verb, noun) for verb in VERBS for noun in NOUNS]
    random.Random(0).shuffle(pairs)
    rows = [
        {"input": f"{verb} {noun}", "output": "yes" if noun[0] <= "k" else "no"}
        for verb, noun in pairs
    ]
    for name, part in (("train", rows[:48]), ("dev", rows[48:64]), ("test", rows[64:104])):
        lines = "".join(json.dumps(row) + "\n" for row in part)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    lines = [
        "task: small",
        f"base: {base}",
        "data: {train: train.jsonl, dev: dev.jsonl, test: test.jsonl, leak: allow}",
        "prompt: {labels: [yes, no]}",
        "budget: {train_examples: 320}",
        "compute: {threads: 1, device: cpu, dtype: float32}",
        f"ladder: {ladder}",
        *([] if any(line.startswith("seeds:") for line in more) else ["seeds: 1"]),
        *more,
    ]
    path = folder / "task.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def stop_after(n: int) -> Callable[[Step], None]:
    """Return a listener that interrupts the run when `n` units are committed."""
    left = [n]

    def hear(step: Step) -> None:
        if step.finished is not None:
            left[0] -= 1
        elif left[0] <= 0 and step.phase != "load":
            raise InterruptedRun("stopped")

    return hear
