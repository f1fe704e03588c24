"""How sure a score and a difference are: intervals, paired comparisons, sample sizes."""

from savile.stats.agreement import correlation, kappa, mean_of_seeds, share
from savile.stats.comparison import (
    Comparison,
    difference,
    difference_of_these,
    holm,
    mcnemar,
    rows_needed,
)
from savile.stats.limits import Interval, interval, limits, limits_of_picked, limits_of_picked_gain
from savile.stats.noise import ALPHA, noise_of_difference, quantile
from savile.stats.resample import REPLICATES, Measured, Resampled, resample
from savile.stats.sequence import lower_limit

__all__ = [
    "ALPHA",
    "REPLICATES",
    "Comparison",
    "Interval",
    "Measured",
    "Resampled",
    "correlation",
    "difference",
    "difference_of_these",
    "holm",
    "interval",
    "kappa",
    "limits",
    "limits_of_picked",
    "limits_of_picked_gain",
    "lower_limit",
    "mcnemar",
    "mean_of_seeds",
    "noise_of_difference",
    "quantile",
    "resample",
    "rows_needed",
    "share",
]
