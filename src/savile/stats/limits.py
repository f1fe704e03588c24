"""95 % limits of a score: of a row as it stands, and of the row that was picked as the best.

Limits lie on Wilson's scale, on which p (1 - p) / Var(m) is the number of rows; for a
right-or-wrong metric and one seed that is Wilson's own interval. How far away they lie is the
matter of `noise.py`.

A row picked for its high score flatters itself. Only rivals that might be the best after all can
have been picked instead by luck, so the lower limit counts the contenders: those whose distance
from the picked row lies within the limits of both,

    (m_picked - m)^2 <= (m_picked - low_picked)^2 + (high - m)^2

and holds for all contenders at once (2.5 % below, in quadrature as ever: the studentized maximum
of their number, the moderated variance of their seeds). Without a contender the limits are the
plain ones, and a technique that scatters far below changes nothing. The upper limit is the plain
one: a picked row is seldom too low.

Source: Wilson 1927; Zrnic and Fithian 2024, arXiv:2212.09009 (locally simultaneous inference:
correct over what might have been selected, not over everything); Andrews, Kitagawa and McCloskey
2024, doi:10.1093/qje/qjad043 (projection intervals on winners); Zou and Donner 2008 (limits of a
difference from the limits of its terms). What differs: the contenders are found at 5 % without a
share of the error budget, because the studentized maximum leaves room (`bench/coverage.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from savile.metrics.base import Array
from savile.stats.noise import ALPHA, Noise, Part, noise_of, noise_of_picked, quantile
from savile.stats.resample import Aggregate, Measured, Resampled, resample

ROUNDING: Final = 1e-9
"""Part of the best score: a smaller standard error is that of rounded sums, not of rows."""


class Interval(NamedTuple):
    """A score and its confidence limits, in the metric's own unit."""

    score: float
    low: float
    high: float


def interval(measured: Measured, metric: Aggregate, seed: int = 0) -> Interval:
    """Return the score with its 95 % limits, the noise of seeds included.

    Example: 8 right of 10 -> Interval(0.8, 0.490, 0.943).
    """
    return limits(resample([measured], metric, seed)[0])


def limits(one: Resampled) -> Interval:
    """Return Wilson's interval, in which seeds and the metric set the effective number of rows."""
    return _wilson(one, noise_of(one))


def limits_of_picked(one: Resampled, candidates: Sequence[Resampled]) -> Interval:
    """Return the limits of the row that was picked as the best of the `candidates`."""
    plain, near = limits(one), contenders(one, candidates)
    if len(near) == 1:
        return plain
    low = _wilson(one, noise_of_picked(one, near)).low
    return plain._replace(low=min(plain.low, low))


def limits_of_picked_gain(gains: Array, many: int) -> Interval:
    """Return the mean gain over a given technique of the one that was picked as the best of `many`.

    All of them count, since the rows that would tell which were contenders are those that chose.

    Args:
        gains: the picked one's score minus the given one's on each row, float64 [N], N at least 2.
        many: rivals that might have been picked, at least 1.

    Example: 64 rows of mean 0.1 and deviation 0.5, the best of 8 -> Interval(0.1, -0.078, 0.226).
    """
    gain, n = float(gains.mean()), len(gains)
    plain = Part(float(gains.var(ddof=1)) / n, n - 1)
    low, high = (Noise(part).half_width(ALPHA / 2) for part in (plain._replace(many=many), plain))
    return Interval(gain, gain - low, gain + high)


def contenders(one: Resampled, candidates: Sequence[Resampled]) -> tuple[Resampled, ...]:
    """Return the candidates that might be the best, `one` with the highest score among them."""
    below = one.score - limits(one).low
    return tuple(
        other
        for other in candidates
        if other is one
        or one.score - other.score <= math.hypot(below, limits(other).high - other.score)
    )


def _wilson(one: Resampled, noise: Noise) -> Interval:
    tail = ALPHA / 2
    variance, half = (0.0 if one.exact else noise.variance), noise.half_width(tail)
    p = one.score / one.top
    if not 0 <= p <= 1:
        return Interval(one.score, one.score - half, one.score + half)
    if variance > (ROUNDING * one.top) ** 2:
        far = half / math.sqrt(variance)
        rows = p * (1 - p) * one.top**2 / variance if p < 1 else one.n
    else:
        far, rows = quantile(tail, many=noise.rows.many), one.n
    pull = far**2 / max(rows, 1e-9)
    center = (p + pull / 2) / (1 + pull)
    half = math.sqrt(p * (1 - p) * pull + pull**2 / 4) / (1 + pull)
    low, high = max(0.0, center - half), min(1.0, center + half)
    return Interval(one.score, min(p, low) * one.top, max(p, high) * one.top)
