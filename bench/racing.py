"""Replays races on score matrices, and runs them in made worlds: what is saved, and what is lost.

    python bench/racing.py [--replays 60]

A replay draws three of a technique's seeds, and dev and test rows with replacement, from
`bench/results/*-score-matrix-*.jsonl`; the race and the uniform allocation see the same draw. What
counts is held against the whole matrix: every test row, every seed.

    kept        the technique with the highest test score of all, or one that its board calls tied
                with it, is among those with a whole budget
    regret      true score of the best of the board without the race, less that of the best with it
    tokens      trained tokens, the searches included, as a part of those without the race
    answers     rows of dev and test that are answered, likewise
    wrong       part of the stopped that is truly better than the race's best, by over the margin

The worlds have what no matrix shows: techniques that are all equal, one that is better by just
more than the margin, and curves that cross.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

import kept
import machine
from savile.ladder import race as rule
from savile.ladder.plan import DEFAULT_EVALUATIONS
from savile.ladder.race import Race, Runner, first_rows
from savile.ladder.standing import stand
from savile.metrics.accuracy import Accuracy
from savile.metrics.base import Array, mean_of_rows
from savile.stats import Measured
from score_matrix import Scored, read
from table import newest

SEEDS = 3
MARGINS = (0.02, 0.05, 0.1)
REPLICATES = 400
AUTO = ("zero_shot", "one_shot", "few_shot(k=8)", "few_shot(k=16)", "bottleneck", "full", "lora",
        "p_tuning", "prefix_tuning", "prompt_tuning", "few_shot(k=4)+lora")  # fmt: skip
"""The ladder that `auto` writes for labels, of the techniques of a matrix."""
WORLDS, ROWS, TECHNIQUES = 100, 200, 12
MARGIN = 0.05


class Drawn(NamedTuple):
    """One technique of one replay."""

    scored: Scored
    start: Array
    whole: list[Array]
    board: float
    """Test score on the drawn rows and seeds."""
    true: float
    tokens: list[int]


class Replay(NamedTuple):
    """What one race came to beside the uniform allocation."""

    tokens: float
    answers: float
    kept: bool
    regret: float
    stopped: int
    wrong: int


def main() -> None:
    """Replay every matrix, run the worlds, keep both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replays", type=int, default=60)
    replays = parser.parse_args().replays
    remember_limits()
    lines = [machine.line()]
    for name, records in sorted(newest(kept.RESULTS).items()):
        if name.startswith("score-matrix-"):
            lines += replayed(name.removeprefix("score-matrix-"), records, replays)
    lines += [*stopped_by_chance(), *crossing()]
    kept.write("racing", lines)


# ── replays ──────────────────────────────────────────────────────────────────────────────────


def replayed(
    task: str, records: Sequence[dict[str, Any]], replays: int
) -> Iterator[dict[str, Any]]:
    """Yield one line a ladder and margin of a matrix."""
    case = read(records)
    top = next(r["top"] for r in records if r["kind"] == "case")
    ladders = {"every technique": list(case)}
    if set(AUTO) <= set(case):
        ladders["auto"] = list(AUTO)
    for ladder, names in ladders.items():
        chosen = [case[name] for name in names if case[name].start or not case[name].learns]
        rng = np.random.default_rng(0)
        drawn = [draw(chosen, rng) for _ in range(replays)]
        tie = tied(chosen)
        for margin in MARGINS:
            race = Race(margin=margin * top, top=top)
            found = [held_against(raced(one, race), one, race, tie) for one in drawn]
            sums = Replay(*(sum(column) for column in zip(*found, strict=True)))
            yield {
                "kind": "replays",
                "task": task,
                "ladder": ladder,
                "techniques": len(chosen),
                "families": len({one.family for one in chosen}),
                "dev": len(chosen[0].dev[0]),
                "margin": margin,
                "replays": replays,
                "kept": sums.kept / replays,
                "regret": sums.regret / replays,
                "largest_regret": max(one.regret for one in found),
                "tokens": sums.tokens / replays,
                "answers": sums.answers / replays,
                "stopped": sums.stopped / replays,
                "wrong": sums.wrong / max(sums.stopped, 1),
            }


def draw(techniques: Sequence[Scored], rng: np.random.Generator) -> list[Drawn]:
    """Draw seeds, the same for all techniques, and rows; a prompt's start is the first of them."""
    n_dev, n_test = len(techniques[0].dev[0]), len(techniques[0].test[0])
    dev, test = rng.integers(0, n_dev, n_dev), rng.integers(0, n_test, n_test)
    order = rng.permutation(max(len(one.dev) for one in techniques))[:SEEDS]
    found = []
    for one in techniques:
        seeds = order if len(one.dev) > 1 else [0]
        whole = [one.dev[seed][dev] for seed in seeds]
        start = whole[0][: first_rows(n_dev)]
        if one.learns:
            start = one.start[int(rng.choice(list(one.start)))][dev]
        board = fmean(float(one.test[seed][test].mean()) for seed in seeds)
        true = fmean(float(rows.mean()) for rows in one.test)
        found.append(Drawn(one, start, whole, board, true, [one.tokens[seed] for seed in seeds]))
    return found


def tied(techniques: Sequence[Scored]) -> set[str]:
    """Return the best technique of a board without a race, and those that it calls tied with it."""
    measured = [
        Measured(
            name=one.name,
            kind="tuned" if one.learns else "prompt",
            statistics=tuple(mean_of_rows(list(rows)) for rows in one.test),
            binary=set(np.unique(one.test)) <= {0.0, 1.0},
        )
        for one in techniques
    ]
    standing = stand(measured, Accuracy(), 0, REPLICATES)
    return {standing.best.measured.name, *(p.other.measured.name for p in standing.tied)}


def raced(techniques: Sequence[Drawn], race: Race) -> list[Runner]:
    """Return every technique as the race leaves it."""
    runners = {one.scored.name: begun(one) for one in techniques}
    whole = {one.scored.name: one.whole for one in techniques}
    while (name := race.next(list(runners.values()))) is not None:
        one = runners[name]
        runners[name] = replace(one, whole=(*one.whole, whole[name][len(one.whole)]))
    return list(runners.values())


def begun(one: Drawn) -> Runner:
    """Return a technique after its short run."""
    return Runner(
        name=one.scored.name,
        family=one.scored.family,
        start=one.start,
        seeds=len(one.whole),
        learns=one.scored.learns,
        varies=len(one.whole) > 1,
    )


def held_against(
    runners: Sequence[Runner], techniques: Sequence[Drawn], race: Race, tie: set[str]
) -> Replay:
    """Return what a race saved and lost."""
    by_name = {one.scored.name: one for one in techniques}
    done = [by_name[runner.name] for runner in runners if runner.done]
    left = [by_name[runner.name] for runner in runners if not runner.done]
    best, without = (max(some, key=lambda one: one.board) for some in (done, techniques))
    spent, whole = ([work(r, by_name[r.name], f) for r in runners] for f in (False, True))
    trained, answered = (
        sum(part[at] for part in spent) / max(sum(part[at] for part in whole), 1) for at in (0, 1)
    )
    return Replay(
        tokens=trained,
        answers=answered,
        kept=any(one.scored.name in tie for one in done),
        regret=without.true - best.true,
        stopped=len(left),
        wrong=sum(one.true > best.true + race.margin for one in left),
    )


def work(runner: Runner, one: Drawn, finish: bool) -> tuple[int, int]:
    """Return trained tokens and answered rows of a technique, as it is or with all of its runs."""
    runs = runner.seeds if finish else len(runner.whole)
    n_dev, n_test = len(one.whole[0]), len(one.scored.test[0])
    tests = n_test * runner.seeds if finish or runner.done else 0
    if not runner.learns:
        return 0, max(runs * n_dev, 0 if finish else len(runner.start)) + tests
    looks = one.scored.tries + DEFAULT_EVALUATIONS * runs
    return one.scored.search_tokens + sum(one.tokens[:runs]), looks * n_dev + tests


# ── worlds ───────────────────────────────────────────────────────────────────────────────────


def stopped_by_chance() -> Iterator[dict[str, Any]]:
    """Yield how often races say what is not so: that one of equals is worse than the leader, and
    that a technique better by more than the margin cannot be."""
    race = Race(margin=MARGIN)
    for score in (0.5, 0.8, 0.95):
        called = stopped = 0
        rng = np.random.default_rng(1)
        for _ in range(WORLDS):
            runners = raced(world(rng, [score] * TECHNIQUES, [score] * TECHNIQUES), race)
            called += any(race.chance(r, runners).most < 0 for r in runners if not r.done)
            better = [score - MARGIN - 0.01] * (TECHNIQUES - 1) + [score]
            runners = raced(world(rng, better, better), race)
            stopped += not runners[-1].done
        yield {
            "kind": "chance",
            "score": score,
            "worlds": WORLDS,
            "called_worse": called / WORLDS,
            "better_stopped": stopped / WORLDS,
        }


def crossing() -> Iterator[dict[str, Any]]:
    """Yield how often the technique that wins in the end is stopped, by how much more it gains
    after its start than any technique of the others does."""
    race, gain = Race(margin=MARGIN), 0.1
    for times in (1.0, 1.5, 2.0, 3.0, 4.0):
        stopped, share = 0, []
        rng = np.random.default_rng(2)
        for _ in range(WORLDS):
            ends = [*(0.8 - 0.02 * i for i in range(TECHNIQUES - 1)), 0.85]
            starts = [*(end - gain for end in ends[:-1]), 0.85 - times * gain]
            runners = raced(world(rng, starts, ends), race)
            stopped += not runners[-1].done
            share.append(fmean(len(r.whole) / r.seeds for r in runners))
        yield {
            "kind": "crossing",
            "times": times,
            "worlds": WORLDS,
            "start_gap": (times - 1) * gain - 0.05,
            "stopped": stopped / WORLDS,
            "whole_runs": fmean(share),
        }


def world(rng: np.random.Generator, starts: Sequence[float], ends: Sequence[float]) -> list[Drawn]:
    """Draw techniques of one family whose true scores are given; seeds differ by 0.01, and rows
    have a difficulty that all techniques share."""
    hard = rng.random(ROWS)

    def rows(score: float) -> Array:
        own = np.clip(score + rng.normal(0, 0.01), 0, 1)
        mixed: Array = np.where(rng.random(ROWS) < 0.7, hard, rng.random(ROWS))
        return (mixed < own).astype(float)

    found = []
    for n, (start, end) in enumerate(zip(starts, ends, strict=True)):
        whole = [rows(end) for _ in range(SEEDS)]
        scored = Scored(f"{n}", "PEFT", True, {}, whole, whole, 3, 3, [1] * SEEDS)
        found.append(Drawn(scored, rows(start), whole, end, end, [1] * SEEDS))
    return found


def remember_limits() -> None:
    """Let the rule compute the limit of the same rows once: replays ask for it again and again."""
    compute: Callable[..., float] = rule.lower_limit
    known: dict[tuple[Any, ...], float] = {}

    def limit(values: Array, alpha: float, *, low: float = 0.0, high: float = 1.0) -> float:
        key = (values.tobytes(), alpha, low, high)
        if key not in known:
            known[key] = compute(values, alpha, low=low, high=high)
        return known[key]

    rule.lower_limit = limit  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
