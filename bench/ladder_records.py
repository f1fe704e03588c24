"""The arithmetic of the ladder's comparison: work that was done, prices, and the same winners."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from savile.stats import ALPHA, holm, mcnemar

NEAREST = {"prompt_tuning": "prompt_tuning", "lora": "lora", "full": "full", "bottleneck": "lora"}
"""What stands on the peer's side for each of our deltas: PEFT has no bottleneck adapters."""

Record = dict[str, Any]


class Trial(NamedTuple):
    """One unit of a finished run."""

    path: Path
    result: Record

    @property
    def answered(self) -> int:
        """Questions it answered: those it wrote down, and its looks at dev before the best one."""
        file = self.path / "predictions.jsonl"
        return len(file.read_text(encoding="utf-8").splitlines()) if file.is_file() else 0


def ledger(run: Path) -> list[Record]:
    """Return what each technique of a finished run did: presentations, and questions answered."""
    board = json.loads((run / "board.json").read_text(encoding="utf-8"))
    n_dev = board["data"]["dev_judging"]
    tokens = {row["technique"]: row["prompt_tokens"] for row in board["board"]}
    works: dict[str, Record] = {}
    for trial in [*trials_of(run, search=True), *trials_of(run, folder="measured")]:
        name = trial.result.get("technique") or names(run)[trial.path.name]
        own = works.setdefault(
            name,
            {
                "kind": "work",
                "technique": name,
                "delta": None,
                "presentations": 0,
                "last_presentations": 0,
                "questions": 0,
                "test_questions": 0,
                "prompt_tokens": tokens[name],
            },
        )
        if trial.path.parent.name == "measured":
            own["test_questions"] += trial.answered
            own["questions"] += trial.answered
            continue
        deltas = trial.result["candidate"]["deltas"]
        own["delta"] = deltas[0][0] if deltas else None
        examples = trial.result.get("examples", 0)
        own["presentations"] += examples
        looks = [h for h in trial.result.get("history", ()) if "dev_score" in h]
        own["questions"] += len(looks) * n_dev if deltas else trial.answered
        if ".search" not in trial.path.name:
            own["last_presentations"] = examples
    return list(works.values())


def names(run: Path) -> dict[str, str]:
    """Return the technique of each trained unit."""
    return {trial.path.name: trial.result["technique"] for trial in trials_of(run)}


def trials_of(run: Path, *, folder: str = "trials", search: bool = False) -> list[Trial]:
    """Return the units of a run in order; pieces of a search only where they are asked for."""
    found = sorted((run / folder).glob("*/result.json"))
    return [
        Trial(file.parent, json.loads(file.read_text(encoding="utf-8")))
        for file in found
        if search or ".search" not in file.parent.name
    ]


def priced(works: Sequence[Record], told: Sequence[Record], block: int) -> Record:
    """Return what the peer would take for the whole ladder, and for its dearest technique once.

    A question's price is linear in the tokens of its prompt, between the shortest and the longest
    prompt of the block.
    """
    own = [record for record in told if record.get("block") == block]
    rates = {r["delta"]: r["cpu_seconds"] for r in own if r["kind"] == "rate"}
    line = question_price([r for r in own if r["kind"] == "question"])
    whole, once = 0.0, 0.0
    for work in works:
        rate = rates[NEAREST[work["delta"]]] if work["delta"] else 0.0
        question = line(work["prompt_tokens"])
        whole += work["presentations"] * rate + work["questions"] * question
        alone = work["last_presentations"] * rate + work["test_questions"] * question
        once = max(once, alone if work["delta"] else 0.0)
    return {"one_by_one": whole, "dearest_once": once}


def question_price(prices: Sequence[Record]) -> Any:
    """Return the CPU seconds of a question by the tokens of its prompt."""
    ends = sorted(prices, key=lambda price: price["prompt_tokens"])
    low, high = ends[0], ends[-1]
    apart = high["prompt_tokens"] - low["prompt_tokens"]
    slope = (high["cpu_seconds"] - low["cpu_seconds"]) / apart if apart else 0.0

    def price(tokens: float) -> float:
        found: float = low["cpu_seconds"] + slope * (tokens - low["prompt_tokens"])
        return found

    return price


def summary(ours: float, costs: Sequence[Record]) -> Record:
    """Return both sides' CPU seconds; of the peer median, least and most over the blocks."""
    found: Record = {"kind": "summary", "ours_cpu_seconds": round(ours, 1), "extrapolated": True}
    for name in ("dearest_once", "one_by_one"):
        values = [cost[name] for cost in costs]
        three = [f(values) for f in (statistics.median, min, max)]
        found[f"{name}_cpu_seconds"] = [round(value, 1) for value in three]
        found[f"ours_to_{name}"] = [round(ours / value, 4) for value in three]
    return found


def gate(asked: Record, told: Sequence[Record]) -> Record:
    """Return whether the best technique of each side is tied with that of the other: both sides
    answered the same rows, and McNemar's test, Holm's correction over the techniques, tells none
    of the tied from the best."""
    wanted = asked["wanted"]
    by_name = {
        run["technique"]: unit for run, unit in zip(asked["runs"], asked["ours"], strict=True)
    }
    sides = {
        "ours": {name: right(asked["ours"][unit], wanted) for name, unit in by_name.items()},
        "peer": {r["technique"]: right(r["answers"], wanted) for r in told},
    }
    best = {side: max(rows, key=lambda name: sum(rows[name])) for side, rows in sides.items()}
    ties = {side: tied(rows, best[side]) for side, rows in sides.items()}
    return {
        "kind": "gate",
        "passed": best["ours"] in ties["peer"] and best["peer"] in ties["ours"],
        "rows": len(wanted),
        "best": best,
        "tied": ties,
        "scores": {
            side: {name: sum(row) / len(row) for name, row in rows.items()}
            for side, rows in sides.items()
        },
    }


def right(answers: Sequence[int], wanted: Sequence[int]) -> list[bool]:
    """Return which answers are right."""
    return [a == b for a, b in zip(answers, wanted, strict=True)]


def tied(rows: dict[str, list[bool]], best: str) -> list[str]:
    """Return the techniques that are not told from the best, itself among them."""
    others = [name for name in rows if name != best]
    ps = holm([_p(rows[best], rows[name]) for name in others])
    return sorted([best, *(name for name, p in zip(others, ps, strict=True) if p >= ALPHA)])


def _p(a: list[bool], b: list[bool]) -> float:
    both = list(zip(a, b, strict=True))
    return mcnemar(sum(x and not y for x, y in both), sum(y and not x for x, y in both))
