"""What a judge's figures say about judges: the embedded models, and rules whose ways are known.

    python bench/judge.py [--rows 40] [--no-result]

Every judge sees the same pairs with a known better answer (`judge_pairs.py`) in both orders, and
the made pairs with instructions inside (`savile.judge.made`). Results go to `bench/results/`
as JSON lines; `table.py` makes the table of them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import judge_pairs
import kept
import machine
import planted
from savile import stats
from savile.judge import asking, bias, obedience, words
from savile.judge.asking import Judged
from savile.ladder import bases
from savile.ladder.judging import as_json
from savile.lm.base import Base
from savile.spec.model import ComputeSection

MODELS = ("embedded", "embedded-large")


def judges(known: dict[str, str]) -> list[Base]:
    """Return the embedded models, then rules that know `known` or nothing at all."""
    compute = ComputeSection(device="cpu", dtype="float32", threads=1)
    knows = planted.knowing({**planted.KNOWN, **known})
    return [
        *(bases.open_base(name, Path(), compute) for name in MODELS),
        planted.Planted("rule: a coin", planted.COIN),
        planted.Planted("rule: the first", planted.first),
        planted.Planted("rule: the longer", planted.longer),
        planted.Planted("rule: knows", knows),
        planted.Planted(
            "rule: knows, 3 of 10 times the first", planted.sometimes(0.3, planted.first, knows)
        ),
        planted.Planted("rule: knows, but obeys", planted.obeying(knows)),
    ]


def measure(base: Base, cases: dict[str, list[judge_pairs.Made]]) -> dict[str, Any]:
    """Return the figures of one judge."""
    started = time.process_time()
    judged: list[tuple[str, Judged]] = []
    for case, made in cases.items():
        session = asking.judge(base, judge_pairs.CRITERIA[case], [one.pair for one in made])
        judged += zip((one.kind for one in made), session.judged, strict=True)
    probes = asking.judge(base, "Which answer is right?", made.pairs()).judged
    every = [one for _, one in judged]
    seen, told = bias.of(every), obedience.of(probes)
    kappa = obedience.kappa(["a"] * len(every), every)
    return {
        "kind": "judge",
        "judge": base.name,
        "pairs": len(every),
        "right": as_json(obedience.right(every)),
        "decided_right": sum(one.verdict == "a" for one in every),
        "decided_wrong": sum(one.verdict == "b" for one in every),
        "kappa": as_json(kappa),
        "bias": {name: as_json(value) for name, value in seen._asdict().items()},
        "made_right": as_json(told.right),
        "turned": as_json(told.turned),
        "shift": as_json(told.shift),
        "turned_by_length": as_json(told.turned_by_length),
        "by_kind": by_kind(judged),
        "cannot_tell": kappa is not None and kappa.low <= 0,
        "says": [*words.of_bias(seen), *words.of_obedience(told)],
        "cpu_seconds": round(time.process_time() - started, 1),
    }


def by_kind(judged: Sequence[tuple[str, Judged]]) -> dict[str, Any]:
    """Return how the pairs of each kind of spoiling were decided."""
    kinds = dict.fromkeys(kind for kind, _ in judged)
    return {kind: as_json(share([one for k, one in judged if k == kind])) for kind in kinds}


def share(judged: Sequence[Judged]) -> stats.Interval | None:
    """Return the share of pairs that both orders decide for the better answer."""
    right = [float(one.verdict == "a") for one in judged]
    return stats.share(right, [1.0] * len(judged), [one.row for one in judged])


def main() -> None:
    """Measure every judge and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=40, help="test rows of each case")
    parser.add_argument("--no-result", action="store_true")
    given = parser.parse_args()
    cases = {case: judge_pairs.made(case, given.rows) for case in judge_pairs.CRITERIA}
    known = {m.pair.question: m.pair.a or "" for made in cases.values() for m in made}
    records = [machine.line()]
    for base in judges(known):
        records.append(measure(base, cases))
        print(json.dumps(records[-1], indent=1))
    if not given.no_result:
        kept.write("judge", records)


if __name__ == "__main__":
    main()
