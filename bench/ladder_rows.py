"""What the peer is asked: the token ids of our rows, labels and prompts, and our settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ladder_records import NEAREST, trials_of
from savile import data, spec
from savile.ladder.folder import RunFolder, Unit
from savile.ladder.measure import ready_of
from savile.ladder.plan import BATCH_SIZE
from savile.lm.load import load
from savile.lm.resolve import resolve

TIMED_ROWS = 64
"""Presentations of one timed pass: four steps."""


def asked_of(task: Path, run: Path, *, rows: int | None, runs: bool) -> dict[str, Any]:
    """Return what the peer needs to do the work of a finished run.

    Args:
        task: its spec.
        run: its folder.
        rows: how many test questions; None for all.
        runs: whether the peer really trains and answers, or is only timed.
    """
    loaded = spec.load(task)
    dataset = data.load(loaded)
    lm = load(str(loaded.base), folder=loaded.folder, device="cpu", dtype="float32")
    test = list(dataset.test.open("the peer answers the same rows"))[:rows]
    trials = trials_of(run)
    frames = {
        trial.result["technique"]: ready_of(committed(run, "trials", trial.path.name)).frame
        for trial in trials
    }
    plain = frames["zero_shot"]
    labels = list(plain.label_words)
    train = dataset.train if runs else dataset.train[:TIMED_ROWS]
    prompts = {
        name: [lm.encode_prompt(frame.messages(row)) for row in test]
        for name, frame in frames.items()
        if name == "zero_shot" or name.startswith("few_shot")
    }
    return {
        "model": str(resolve(str(loaded.base), loaded.folder)),
        "batch_size": BATCH_SIZE,
        "deltas": sorted(set(NEAREST.values())),
        "labels": [lm.encode_completion(label) for label in labels],
        "rows": [
            {
                "prompt": lm.encode_prompt(plain.messages(row)),
                "completion": lm.encode_completion(plain.target(row)),
            }
            for row in train
        ],
        "prompts": prompts,
        "runs": [_run(trial.result, prompts) for trial in trials] if runs else [],
        "wanted": [labels.index(plain.target(row)) for row in test],
        "ours": {
            trial.path.name: [
                labels.index(one.answer or "")
                for one in committed(run, "measured", trial.path.name).predictions
            ]
            for trial in trials
        },
    }


def committed(run: Path, folder: str, name: str) -> Unit:
    """Return a committed unit of a run."""
    found = RunFolder(run).read(f"{folder}/{name}")
    assert found is not None
    return found


def _run(result: Any, prompts: dict[str, Any]) -> dict[str, Any]:
    deltas = [name for name, _ in result["candidate"]["deltas"]]
    return {
        "technique": result["technique"],
        "delta": NEAREST[deltas[0]] if deltas else None,
        "prompt": result["technique"] if result["technique"] in prompts else "zero_shot",
        "learning_rate": result["learning_rate"],
        "examples": result.get("examples", 0),
    }
