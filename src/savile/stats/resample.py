"""Scores of all techniques on the test rows and on bootstrap samples that they share.

One sample of the rows serves every technique and every seed, so that differences are paired by row.

Source: Koehn 2004, ACL W04-3250 (paired bootstrap).
Cost: one matrix product [replicates, N] x [N, S] a seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from savile.metrics.base import Array
from savile.types import Kind

REPLICATES = 2000
"""Bootstrap samples: an interval's width has a Monte Carlo error of about 1.6 %."""
CHUNK = 250
"""Bootstrap samples drawn at once: 8 * 250 * N bytes."""


class Aggregate(Protocol):
    """What makes a score of summed statistics: a metric, a share, a coefficient."""

    @property
    def top(self) -> float:
        """The best possible score; the worst is 0."""

    def aggregate(self, total: Array) -> Array:
        """Return scores from summed statistics: float64 [..., S] -> [...]."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One technique's answers on the test rows, as a metric's statistics."""

    name: str
    statistics: tuple[Array, ...]
    """One array [N, S] a seed; the same N rows in the same order for every technique."""
    binary: bool
    """Whether each row is right or wrong."""
    kind: Kind = "prompt"
    """`baseline` for trivial answers such as the majority label."""
    stochastic: bool = False
    """Whether another seed gives other answers: drawn demonstrations; tuned techniques always."""

    @property
    def one_seed(self) -> bool:
        """Whether chance took part and was drawn only once, so that nobody knows how much."""
        return len(self.statistics) == 1 and (self.stochastic or self.kind == "tuned")


@dataclass(frozen=True, kw_only=True)
class Resampled:
    """A technique's scores on the test rows and on the bootstrap samples all techniques share."""

    measured: Measured
    top: float
    """The best possible score of the metric."""
    scores: Array
    """[K] one a seed."""
    replicates: Array
    """[K, R] on R bootstrap samples of the rows."""

    @property
    def score(self) -> float:
        """The mean over seeds."""
        return float(self.scores.mean())

    @property
    def n(self) -> int:
        """Number of test rows."""
        return len(self.measured.statistics[0])

    @property
    def exact(self) -> bool:
        """Whether exact binomial statistics apply: right or wrong, one seed."""
        return self.measured.binary and len(self.scores) == 1

    @property
    def seed_variance(self) -> float:
        """s^2: sample variance between seeds; 0 for one seed."""
        return float(self.scores.var(ddof=1)) if len(self.scores) > 1 else 0.0

    @property
    def row_noise(self) -> float:
        """I: how much of `seed_variance` is the row noise of single seeds; 0 for one seed."""
        if len(self.scores) == 1:
            return 0.0
        return float(self.replicates.var(axis=0, ddof=1).mean()) - self.seed_variance


def resample(
    measured: Sequence[Measured], metric: Aggregate, seed: int = 0, replicates: int = REPLICATES
) -> tuple[Resampled, ...]:
    """Score every technique on the same bootstrap samples of the rows; same seed, same numbers.

    Raises:
        ValueError: when the techniques were not measured on the same number of rows.
    """
    every = [statistics for m in measured for statistics in m.statistics]
    sizes = {len(statistics) for statistics in every}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(f"techniques need the same rows, at least one; found {sorted(sizes)} rows")
    rng, n, found = np.random.default_rng(seed), sizes.pop(), []
    stacked, edges = np.concatenate(every, axis=1), np.cumsum([s.shape[1] for s in every])[:-1]
    for start in range(0, replicates, CHUNK):
        weights = _multiplicities(rng, min(CHUNK, replicates - start), n)
        sums = np.split(weights @ stacked, edges, axis=1)
        found.append(np.stack([metric.aggregate(total) for total in sums]))
    drawn = np.concatenate(found, axis=1)
    plain = np.array([float(metric.aggregate(s.sum(axis=0))) for s in every])
    ends = np.cumsum([len(m.statistics) for m in measured])[:-1]
    return tuple(
        Resampled(measured=m, top=metric.top, scores=own, replicates=rows)
        for m, own, rows in zip(measured, np.split(plain, ends), np.split(drawn, ends), strict=True)
    )


def _multiplicities(rng: np.random.Generator, replicates: int, n: int) -> Array:
    """Return how often each row is in each bootstrap sample: float64 [replicates, n]."""
    drawn = rng.integers(0, n, size=(replicates, n)) + n * np.arange(replicates)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=replicates * n)
    return counts.reshape(replicates, n).astype(np.float64)
