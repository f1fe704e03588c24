"""Shares, agreement and correlation with 95 % limits, where rows that hang together vary together.

    share = sum of part / sum of whole
    kappa = (p_o - p_e) / (1 - p_e)      p_o: share of agreement, p_e: what chance would agree
    r     = sum of x y / sqrt(sum of x^2 sum of y^2)

Each is an aggregate of sums, so the limits are those of every score (`limits.py`): the bootstrap
draws whole clusters, such as a test row with all pairs that were made of it. Coefficients from -1
to 1 are moved to 0..1 for that, where limits of a perfect value have a width too.

Source: Cohen 1960, doi:10.1177/001316446002000104 (kappa); equal to scikit-learn's
`cohen_kappa_score`. The correlation is not centered: its pairs (x, y) and (-x, -y) say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from savile.metrics.base import Array, mean_of_rows, ratio
from savile.stats.limits import Interval, interval
from savile.stats.resample import Aggregate, Measured


def share(part: Sequence[float], whole: Sequence[float], rows: Sequence[str]) -> Interval | None:
    """Return the sum of `part` over the sum of `whole`; None where there is nothing to share.

    Args:
        part: what is counted of each observation, at most its `whole`.
        whole: what it is counted of: 1, or 0 for an observation that does not count.
        rows: the cluster of each observation; one whose observations count for nothing is left out.

    Example: share([1, 1, 0], [1, 1, 1], ["a", "b", "c"]) -> Interval(0.667, 0.208, 0.939).
    """
    sums = clustered(np.stack([part, whole], axis=1).astype(np.float64), rows)
    return _of(sums[sums[:, 1] > 0], _Share())


def kappa(one: Sequence[str], other: Sequence[str], rows: Sequence[str]) -> Interval | None:
    """Return Cohen's kappa of two raters; None where chance alone agrees always.

    Args:
        one: the first rater's category of each observation.
        other: the second rater's.
        rows: the cluster of each observation.
    """
    names = sorted({*one, *other})
    size = len(names)
    cells = [names.index(a) * size + names.index(b) for a, b in zip(one, other, strict=True)]
    table = np.zeros((len(cells), size * size))
    table[np.arange(len(cells)), cells] = 1.0
    return _moved(_of(clustered(table, rows), _Kappa(size=size))) if size > 1 else None


def correlation(x: Sequence[float], y: Sequence[float], rows: Sequence[str]) -> Interval | None:
    """Return the correlation of x and y around 0; None where one of them is 0 throughout."""
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if not a.any() or not b.any():
        return None
    sums = clustered(np.stack([a * b, a * a, b * b], axis=1), rows)
    return _moved(_of(sums, _Correlation()))


def mean_of_seeds(values: Sequence[Sequence[float]]) -> Interval:
    """Return the mean of values between 0 and 1: those of every seed on the same rows.

    Args:
        values: [K seeds][N rows], at least one row.
    """
    statistics = tuple(mean_of_rows(seed) for seed in values)
    return interval(Measured(name="", statistics=statistics, binary=False), _Share())


def clustered(values: Array, rows: Sequence[str]) -> Array:
    """Return the sum of the observations [N, S] of each cluster [M, S], in order of appearance."""
    places = {name: place for place, name in enumerate(dict.fromkeys(rows))}
    sums = np.zeros((len(places), values.shape[1]))
    np.add.at(sums, [places[name] for name in rows], values)
    return sums


def _of(sums: Array, aggregate: Aggregate) -> Interval | None:
    if not len(sums):
        return None
    return interval(Measured(name="", statistics=(sums,), binary=False), aggregate)


def _moved(found: Interval | None) -> Interval | None:
    """Return limits on 0..1 on the scale from -1 to 1."""
    return None if found is None else Interval(*(2 * value - 1 for value in found))


@final
@dataclass(frozen=True, kw_only=True)
class _Share:
    top: ClassVar[float] = 1.0

    def aggregate(self, total: Array) -> Array:
        return ratio(total)


@final
@dataclass(frozen=True, kw_only=True)
class _Kappa:
    top: ClassVar[float] = 1.0
    size: int

    def aggregate(self, total: Array) -> Array:
        table = total.reshape(*total.shape[:-1], self.size, self.size)
        table = table / table.sum(axis=(-2, -1), keepdims=True)
        agreed = np.trace(table, axis1=-2, axis2=-1)
        chance = (table.sum(axis=-1) * table.sum(axis=-2)).sum(axis=-1)
        found: Array = (agreed - chance) / np.maximum(1 - chance, 1e-12)
        return (found + 1) / 2


@final
@dataclass(frozen=True, kw_only=True)
class _Correlation:
    top: ClassVar[float] = 1.0

    def aggregate(self, total: Array) -> Array:
        spread = np.sqrt(np.maximum(total[..., 1] * total[..., 2], 1e-300))
        found: Array = total[..., 0] / spread
        return (np.clip(found, -1.0, 1.0) + 1) / 2
