"""Successive halving over prompts, on nested rows, against the prompt that was given.

    round r: every rival left is scored on the first m_r = min(N, 2^(r-1) m_1) of N rows, and the
             better half goes on
    cost   = sum over r of (rivals left + 1) (m_r - m_{r-1})  <=  budget

Every prompt that is still in the race is scored on the same rows, those of earlier rounds among
them, so the ranking is one of paired differences and no row is scored twice under a prompt. The
given prompt stays to the end: what is claimed is a gain over it. m_1 is the largest that the budget
allows.

Source: Karnin, Koren, Somekh 2013, "Almost Optimal Exploration in Multi-Armed Bandits" (successive
halving); Jamieson and Talwalkar 2016, arXiv 1502.07943 (for choosing settings).

What differs: rows are kept from round to round, and the given prompt is never dropped. The best of
many flatters itself, so its lower limit allows for all rivals, dropped or not: had all been scored
on the last rows, none could have been picked with a higher mean than the highest of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np

from savile.errors import DataError, Problem
from savile.prompts.base_searched import Searched, Tried
from savile.stats import limits_of_picked_gain

Score = Callable[[int, range], Sequence[float]]
"""Scores a candidate, by its number, on rows: each 0 to 1."""


class Round(NamedTuple):
    """One step of the halving."""

    rivals: int
    """How many go into it."""
    rows: int
    """How many they have been scored on when it ends."""


def rounds(rivals: int, rows: int, budget: int) -> list[Round]:
    """Return the rounds that the budget allows, the last with a single rival.

    Args:
        rivals: candidates beside the given one, at least 1.
        rows: rows that may judge.
        budget: rows scored at most, summed over candidates.

    Raises:
        DataError: not even one row a candidate.

    Example: rounds(4, 64, 120) -> [Round(4, 10), Round(2, 20), Round(1, 40)], which costs 120.
    """
    lives = [rivals]
    while lives[-1] > 1:
        lives.append((lives[-1] + 1) // 2)
    plans = (
        [Round(left, min(rows, first << number)) for number, left in enumerate(lives)]
        for first in range(rows, 0, -1)
    )
    plan = next((plan for plan in plans if cost(plan) <= budget), None)
    if plan is None or plan[-1].rows < 2:
        raise DataError(
            Problem(
                what="the search has too few rows to tell prompts apart",
                found=f"{rows} rows, {budget} scored at most, {rivals + 1} prompts",
                expected="two rows for the last of them",
                fix="Give it a larger budget, fewer prompts, or more training rows",
            )
        )
    return plan


def cost(plan: Sequence[Round]) -> int:
    """Return the rows that a plan scores, the given prompt's included."""
    before = (0, *(one.rows for one in plan))
    return sum(
        (one.rivals + 1) * (one.rows - earlier) for one, earlier in zip(plan, before, strict=False)
    )


class Halved(NamedTuple):
    """What a halving found."""

    best: int
    """The number of the best rival."""
    scores: list[list[float]]
    """Of every candidate, the given one first, on the first rows as far as it came."""

    @property
    def winner(self) -> int:
        """The best rival where it scored higher than the given prompt, else that: 0."""
        return self.best if fmean(self.scores[self.best]) > fmean(self.scores[0]) else 0

    @property
    def gains(self) -> list[float]:
        """By how much the best rival scored higher on each row."""
        return [a - b for a, b in zip(self.scores[self.best], self.scores[0], strict=True)]


def halve(rivals: int, rows: int, budget: int, score: Score) -> Halved:
    """Score candidates 0 (the given one) to `rivals` until one rival is left; the first of equals
    stays."""
    scores: list[list[float]] = [[] for _ in range(rivals + 1)]
    left, done = list(range(1, rivals + 1)), 0
    for one in rounds(rivals, rows, budget):
        left = left[: one.rivals]
        for candidate in (0, *left) if one.rows > done else ():
            scores[candidate] += score(candidate, range(done, one.rows))
        left.sort(key=lambda candidate: -fmean(scores[candidate]))
        done = one.rows
    return Halved(left[0], scores)


def searched(names: Sequence[str], rows: int, budget: int, score: Score) -> tuple[int, Searched]:
    """Return the number of the prompt to take, and the record of the search.

    Args:
        names: of all candidates, the given one first; one rival at least.
        rows: rows that may judge.
        budget: rows scored at most, summed over candidates.
        score: of a candidate on rows.
    """
    found = halve(len(names) - 1, rows, budget, score)
    claimed = limits_of_picked_gain(np.array(found.gains), many=len(names) - 1)
    tried = tuple(
        Tried(
            name=name,
            rows=len(own),
            score=fmean(own),
            given=fmean(found.scores[0][: len(own)]),
        )
        for name, own in zip(names, found.scores, strict=True)
    )
    return found.winner, Searched(
        won=names[found.winner],
        tried=tried,
        rows=len(found.scores[0]),
        scored=sum(map(len, found.scores)),
        gain=claimed.score,
        low=claimed.low,
        high=claimed.high,
    )
