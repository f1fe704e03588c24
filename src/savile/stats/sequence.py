"""A lower limit of a mean that holds however often, and however early, one looks.

    K_t(m) = prod over i <= t of (1 + min(l_i, c / m) (y_i - m))       what a bet on E y > m has won
    l_i    = sqrt(2 log(1 / a) / (n v_(i-1)))
    low_t  = the largest m that K_1(m) ... K_t(m) have reached 1 / a for

with y in [0, 1] and v_(i-1) the variance of the values before the i-th (with 1/4 as one value more,
around their mean, which starts at 1/2). Where the mean is m or less, K is a non-negative
supermartingale that starts at 1, so by Ville's inequality it ever reaches 1 / a with a probability
of at most a: whoever stops when the limit suits him is wrong no more often than one who waits. Each
factor falls as m rises, so the limit is found by halving.

Source: Waudby-Smith and Ramdas 2023, arXiv 2010.09686, theorem 3 and equation 26. What differs: one
side of the hedge, and bets that are tuned to the number of rows n, which is known here, in the
place of t log(1 + t); they depend on the past alone, so the limit holds at every t all the same.

Cost: 24 passes over the values.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from savile.metrics.base import Array

MOST: Final = 0.9
"""c: the part of the wealth that one value can cost. Where 100 rows of 100 are right, the limit at
1 % is 0.950 with it, 0.941 with 3/4, and 0.955 by the exact binomial test, which may look once."""
HALVINGS: Final = 24


def lower_limit(values: Array, alpha: float, *, low: float = 0.0, high: float = 1.0) -> float:
    """Return the lower confidence limit of a mean, valid at any time.

    Args:
        values: float64 [N], independent draws in the order they were seen, N at least 1.
        alpha: the chance, over all looks, that the mean lies below the limit.
        low: the least possible value.
        high: the greatest possible value.

    Example: 200 ones at alpha 0.01 -> 0.975; of -1, 0 and 1 alike, 200 rows, -1 to 1 -> -0.15.
    """
    y = (np.asarray(values, dtype=np.float64) - low) / (high - low)
    bets, wanted = _bets(y, alpha), math.log(1 / alpha)
    below, above = 0.0, 1.0
    for _ in range(HALVINGS):
        mean = (below + above) / 2
        wealth = np.cumsum(np.log1p(np.minimum(bets, MOST / mean) * (y - mean)))
        if wealth.max() >= wanted:
            below = mean
        else:
            above = mean
    return low + below * (high - low)


def _bets(y: Array, alpha: float) -> Array:
    """Return what is bet on each value, from those before it: float64 [N]."""
    seen = np.arange(1, len(y) + 1)
    means = (0.5 + np.cumsum(y)) / (seen + 1)
    variances = (0.25 + np.cumsum((y - means) ** 2)) / (seen + 1)
    before = np.concatenate(([0.25], variances[:-1]))
    bets: Array = np.sqrt(2 * math.log(1 / alpha) / (len(y) * before))
    return bets
