"""The picked row's limits and the p-value of a difference as they were until November 2026.

A yardstick for `coverage.py`, which prints what the present rules cost and bring against these:

    picked      rows at z of alpha / K over all K techniques, seeds at plain t; the variance between
                seeds is at least the median over the whole board
    difference  the same floor, Student's t with Satterthwaite's degrees of freedom
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit

from savile.stats import ALPHA, Resampled, holm, limits, mcnemar


def floor_of(every: Sequence[Resampled]) -> float:
    """Return the median over the board of the variance between seeds."""
    found = [one.seed_variance for one in every if len(one.scores) > 1]
    return float(np.median(found)) if found else 0.0


def limits_of_picked(one: Resampled, candidates: int, floor: float) -> tuple[float, float]:
    """Return the limits of the best of `candidates`; accuracy only."""
    _, plain_low, high = limits(one)
    rows = _row_variance(one.replicates.mean(axis=0), one.n)
    seeds = _seed_variance([one], floor)
    z = -ndtri(ALPHA / 2 / candidates)
    t = -stdtrit(max(len(one.scores) - 1, 1), ALPHA / 2)
    p, variance = one.score, 0.0 if one.exact else rows + seeds
    quantile = math.sqrt((rows * z**2 + seeds * t**2) / (rows + seeds)) if rows + seeds else z
    effective = p * (1 - p) / variance if variance > 0 and p < 1 else one.n
    pull = quantile**2 / effective
    half = math.sqrt(p * (1 - p) * pull + pull**2 / 4)
    return min(plain_low, max(0.0, (p + pull / 2 - half) / (1 + pull))), high


def worse_than(best: Resampled, every: Sequence[Resampled], floor: float) -> list[Resampled]:
    """Return the techniques that Holm over all pairs called significantly worse than `best`."""
    both = list(combinations(every, 2))
    told = [not (a.measured.one_seed or b.measured.one_seed) for a, b in both]
    ps = iter(holm([_p(a, b, floor) for (a, b), tested in zip(both, told, strict=True) if tested]))
    adjusted = [next(ps) if tested else 1.0 for tested in told]
    pairs = [(a, b) for (a, b), p in zip(both, adjusted, strict=True) if p < ALPHA]
    against = [b if a is best else a for a, b in pairs if best in (a, b)]
    return [other for other in against if other.score < best.score]


def _p(a: Resampled, b: Resampled, floor: float) -> float:
    if a.exact and b.exact:
        right_a, right_b = (x.measured.statistics[0][:, 0] > 0 for x in (a, b))
        return mcnemar(int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum()))
    apart = a.replicates.mean(axis=0) - b.replicates.mean(axis=0)
    rows = _row_variance(apart, a.n) + 2 * (a.top / (a.n + 2)) ** 2
    seeds = _seed_variance([a, b], floor)
    fewest = min(len(one.scores) for one in (a, b) if len(one.scores) > 1)
    total = rows + seeds
    freedom = total**2 / (rows**2 / (a.n - 1) + seeds**2 / (fewest - 1))
    return float(2 * stdtr(max(1.0, freedom), -abs(a.score - b.score) / math.sqrt(total)))


def _row_variance(replicates: np.ndarray, n: int) -> float:
    return float(np.var(replicates)) * n / (n - 1)


def _seed_variance(some: Sequence[Resampled], floor: float) -> float:
    seeded = [one for one in some if len(one.scores) > 1]
    return sum(max(one.seed_variance, floor) / len(one.scores) for one in seeded)
