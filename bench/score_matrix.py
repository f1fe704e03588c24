"""Writes what every technique scored on every row: after its short run, and after each whole one.

    python bench/score_matrix.py path/to/run/folder --spec path/to/task.yaml --seeds 2

The whole runs are those of a finished run without a race; the short ones, of the learning rate that
its search chose, are trained here, for as many of its seeds as is asked. A matrix goes to
`bench/results/<date>-score-matrix-<task>.jsonl`: one line a technique, rows as hexadecimal digits
of right and wrong where the metric knows no more, else as numbers. `bench/racing.py` replays races
on it without any training.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import kept
import machine
from savile import spec as specs
from savile.ladder.bases import bases_of
from savile.ladder.bench import Bench, bench_of
from savile.ladder.families import family_of
from savile.ladder.folder import RunFolder, unit_id
from savile.ladder.plan import Cell, from_json
from savile.ladder.prepare import prepare
from savile.ladder.teacher import teaching_of
from savile.ladder.trial import Attempt, run_trial
from savile.ladder.written import candidate_from_json
from savile.metrics.base import Array
from savile.types import Example


class Scored(NamedTuple):
    """One technique of a case: rows are scores in the metric's unit."""

    name: str
    family: str
    learns: bool
    start: dict[int, Array]
    """Dev rows after the short run, by seed; none for a prompt."""
    dev: list[Array]
    """One a seed."""
    test: list[Array]
    search_tokens: int
    """Trained tokens of all search pieces."""
    tries: int
    tokens: list[int]
    """Trained tokens of each whole run."""


def main() -> None:
    """Measure one run folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--spec", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        keep(matrix(options.folder, options.spec, options.seeds, Path(scratch) / "run"))


def matrix(folder: Path, spec_path: Path, seeds: int, scratch: Path) -> list[dict[str, Any]]:
    """Return the lines of a run folder's matrix."""
    run = RunFolder(folder)
    manifest = run.manifest()
    assert manifest is not None, "not a run folder"
    prepared = prepare(specs.load(spec_path), scratch)
    same = prepared.identity["data"] == manifest["identity"]["data"]
    assert same, "the spec's data are not those of the run"
    bench = bench_of(prepared.spec, prepared.dataset, *bases_of(prepared.spec, RunFolder(scratch)))
    bench = replace(bench, teaching=teaching_of(prepared.spec, bench))
    bench = replace(bench, reward_function=prepared.reward)
    test = prepared.dataset.test.open("the run has measured it")
    cells = from_json(json.loads((folder / "plan.json").read_text()))
    found = [technique(run, cell, bench, test, seeds) for cell in cells if cell.seeds]
    about = {
        "kind": "case",
        "task": prepared.spec.task,
        "metric": prepared.spec.metric_name,
        "top": bench.metric.top,
        "dev": len(bench.dev),
        "test": len(test),
        "code_of_whole_runs": manifest["identity"]["code"][:12],
    }
    return [machine.line(), about, *(line for line in found if line is not None)]


def technique(
    run: RunFolder, cell: Cell, bench: Bench, test: Sequence[Example], seeds: int
) -> dict[str, Any] | None:
    """Return the line of one technique, None of one that was not measured."""
    name, trials = cell.technique, []
    dev, tested = [], []
    for seed in range(cell.seeds):
        trial, measured = (run.read(f"{at}/{unit_id(name, seed)}") for at in ("trials", "measured"))
        if trial is None or measured is None:
            return None
        trials.append(trial.result)
        dev.append(scores(bench, bench.dev, [p.answer for p in trial.predictions]))
        tested.append(scores(bench, test, [p.answer for p in measured.predictions]))
    pieces = [run.read(f"trials/{unit_id(name, 0, piece)}") for piece in range(cell.most_tries)]
    searched = [piece.result for piece in pieces if piece is not None]
    candidate = candidate_from_json(trials[0]["candidate"])
    starts = {}
    for seed in range(seeds if cell.kind == "tuned" and searched else 0):
        attempt = Attempt(
            candidate=candidate,
            seed_index=seed,
            learning_rate=trials[seed]["learning_rate"],
            examples=cell.piece,
            search=True,
            raced=True,
        )
        short = run_trial(bench, attempt)
        if short.result["status"] == "ok":
            answers = [p.answer for p in short.predictions]
            starts[str(seed)] = packed(scores(bench, bench.dev, answers))
    return {
        "kind": "matrix",
        "technique": name,
        "family": family_of(candidate),
        "learns": cell.kind == "tuned",
        "start": starts,
        "dev": [packed(rows) for rows in dev],
        "test": [packed(rows) for rows in tested],
        "search_tokens": sum(int(r.get("tokens", 0)) for r in searched),
        "tries": len(searched),
        "tokens": [int(r.get("tokens", 0)) for r in trials],
    }


def scores(bench: Bench, rows: Sequence[Example], answers: Sequence[str | None]) -> Array:
    """Return the score of each row by its answer: float64 [N]."""
    accepted = [row.accepted for row in rows]
    statistics = bench.metric.statistics(answers, accepted, bench.frame.labels)
    found: Array = bench.metric.aggregate(statistics)
    return found


def packed(rows: Array) -> str | list[float]:
    """Return rows for a line of JSON: `n:hexadecimal` for right and wrong, else numbers."""
    if set(np.unique(rows)) <= {0.0, 1.0}:
        bits = "".join("1" if right else "0" for right in rows)
        return f"{len(rows)}:{int(bits, 2):x}"
    return [round(float(score), 4) for score in rows]


def unpacked(written: str | Sequence[float]) -> Array:
    """Return the rows that `packed` wrote: float64 [N]."""
    if isinstance(written, str):
        n, digits = written.split(":")
        return np.array([float(bit) for bit in f"{int(digits, 16):0{int(n)}b}"])
    return np.asarray(written, dtype=np.float64)


def read(records: Sequence[Mapping[str, Any]]) -> dict[str, Scored]:
    """Return the techniques of a matrix by name."""
    return {
        r["technique"]: Scored(
            name=r["technique"],
            family=r["family"],
            learns=r["learns"],
            start={int(seed): unpacked(rows) for seed, rows in r["start"].items()},
            dev=[unpacked(rows) for rows in r["dev"]],
            test=[unpacked(rows) for rows in r["test"]],
            search_tokens=r["search_tokens"],
            tries=r["tries"],
            tokens=r["tokens"],
        )
        for r in records
        if r["kind"] == "matrix"
    }


def keep(lines: Sequence[Mapping[str, Any]]) -> None:
    """Write a matrix as JSON lines."""
    task = next(line["task"] for line in lines if line["kind"] == "case")
    kept.write(f"score-matrix-{task}", lines)


if __name__ == "__main__":
    main()
