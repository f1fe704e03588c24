"""Paired comparisons of two techniques on the same rows, and how many rows would tell.

McNemar's exact test (right or wrong, one seed each), else the difference against its noise: row
noise from the shared bootstrap, the seeds of each side with the degrees of freedom they have. The
p-value is the level at which the limits of the difference touch 0. The exact test decides where it
is taken: limits that would exclude 0 where it does not reach to 0. One seed of chance is not
compared.

Source: McNemar 1947; Holm 1979; Bonett and Price 2012 (limits of a paired difference); Zou and
Donner 2008 (limits in quadrature).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from savile.stats.noise import ALPHA, noise_of_difference, quantile
from savile.stats.resample import Resampled

POWER = 0.8


class Comparison(NamedTuple):
    """Score of `a` minus score of `b`, its limits, and the two-sided p-value of no difference."""

    difference: float
    low: float
    high: float
    p: float


def difference(a: Resampled, b: Resampled) -> Comparison:
    """Return the paired comparison of two techniques that were resampled together.

    One seed of a technique of chance tells nothing: p is 1 and the limits are as wide as can be.
    """
    gap = a.score - b.score
    if a.measured.one_seed or b.measured.one_seed:
        return Comparison(gap, -a.top, a.top, 1.0)
    return difference_of_these(a, b)


def difference_of_these(a: Resampled, b: Resampled) -> Comparison:
    """Return the comparison of what was measured, whether or not another seed could be luckier."""
    gap = a.score - b.score
    if a.exact and b.exact:
        right_a, right_b = (x.measured.statistics[0][:, 0] > 0 for x in (a, b))
        won, lost = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
        p, (low, high) = mcnemar(won, lost), _bonett_price(won, lost, a.n)
        if p >= ALPHA:
            low, high = min(low, 0.0), max(high, 0.0)
        return Comparison(gap, low, high, p)
    noise = noise_of_difference(a, b)
    half = noise.half_width(ALPHA / 2)
    p = 2 * noise.tail(abs(gap)) if gap else 1.0
    return Comparison(gap, max(-a.top, gap - half), min(a.top, gap + half), p)


def mcnemar(won: int, lost: int) -> float:
    """Return the exact two-sided p-value of `won` rows against `lost` rows (McNemar 1947).

    Example: 8 rows won and 1 lost -> 0.0390625.
    """
    n, ways, total = won + lost, 1, 1
    for k in range(min(won, lost)):
        ways = ways * (n - k) // (k + 1)
        total += ways
    return min(1.0, 2 * total / (1 << n))


def holm(ps: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values in the given order.

    Example: [0.01, 0.04, 0.03] -> [0.03, 0.06, 0.06].
    """
    adjusted, worst = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        worst = max(worst, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = worst
    return adjusted


def rows_needed(
    gap: float, row_variance: float, seed_variance: float = 0.0, alpha: float = ALPHA
) -> int | None:
    """Return how many test rows would tell `gap` from 0 in 80 % of repetitions.

    Args:
        gap: the difference of scores, taken as the true one.
        row_variance: variance of one row's difference (N times the variance of the mean).
        seed_variance: what more rows do not reduce.
        alpha: two-sided level, already divided by the number of comparisons.

    Returns:
        The total number of rows; None when no number of rows is enough.
    """
    z = quantile(alpha / 2) + quantile(1 - POWER)
    room = (gap / z) ** 2 - seed_variance
    return math.ceil(row_variance / room) if room > 0 else None


def _bonett_price(won: int, lost: int, n: int) -> tuple[float, float]:
    better, worse = (won + 1) / (n + 2), (lost + 1) / (n + 2)
    variance = (better + worse - (better - worse) ** 2) / (n + 2)
    half = quantile(ALPHA / 2) * math.sqrt(variance)
    return max(-1.0, better - worse - half), min(1.0, better - worse + half)
