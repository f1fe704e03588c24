"""Do the 95 % intervals of single rows cover? One technique, every kind of metric.

Simulates tasks whose true score is known. Rows have a difficulty of their own, shared by all seeds;
each seed shifts every row by a normal draw of standard deviation `noise` (on the probit scale) and
adds noise of its own to each row. The true score is that of a new seed on very many rows.

    python bench/coverage.py rows --tasks 2000
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.stats import norm

from savile.metrics.accuracy import Accuracy
from savile.metrics.base import Array, Metric
from savile.metrics.bleu import Bleu
from savile.metrics.macro_f1 import MacroF1
from savile.metrics.rouge_l import RougeL
from savile.stats import Measured, limits, resample

Draw = Callable[[np.random.Generator, int, int, float], list[Array]]
REPLICATES = 400
"""Fewer than in a run: the Monte Carlo error averages out over the tasks."""
SHIFT = 0.85
"""Mean of a row's latent quality; right is above 0."""


def latent(rng: np.random.Generator, n: int, seeds: int, noise: float) -> list[Array]:
    """Return the latent quality [n] of each seed's answers; variance 1 without the seed's shift."""
    shared = rng.normal(size=n)
    return [
        SHIFT + rng.normal(0, noise) + math.sqrt(0.7) * shared + math.sqrt(0.3) * rng.normal(size=n)
        for _ in range(seeds)
    ]


def accuracy_rows(rng: np.random.Generator, n: int, seeds: int, noise: float) -> list[Array]:
    """Right or wrong."""
    return [
        np.stack([q > 0, np.ones(n)], axis=1).astype(float) for q in latent(rng, n, seeds, noise)
    ]


def rouge_rows(rng: np.random.Generator, n: int, seeds: int, noise: float) -> list[Array]:
    """A mean of rows between 0 and 1, many of them exactly 0 or 1, as ROUGE-L and token F1 are."""
    return [
        np.stack([np.clip(0.5 + 0.4 * (q - SHIFT / 2), 0, 1), np.ones(n)], axis=1)
        for q in latent(rng, n, seeds, noise)
    ]


def f1_rows(
    rng: np.random.Generator, n: int, seeds: int, noise: float, priors: tuple[float, ...]
) -> list[Array]:
    """Wrong rows get another label, half of the time the same one for every seed."""
    c = len(priors)
    truth, rows = rng.choice(c, n, p=priors), np.arange(n)
    usual, found = (truth + rng.integers(1, c, n)) % c, []
    for q in latent(rng, n, seeds, noise):
        other = np.where(rng.random(n) < 0.5, usual, (truth + rng.integers(1, c, n)) % c)
        said, statistics = np.where(q > 0, truth, other), np.zeros((n, 3 * c))
        right = said == truth
        statistics[rows[right], truth[right]] = 1
        statistics[rows[~right], c + said[~right]] = 1
        statistics[rows[~right], 2 * c + truth[~right]] = 1
        found.append(statistics)
    return found


def bleu_rows(rng: np.random.Generator, n: int, seeds: int, noise: float) -> list[Array]:
    """Counts of matching n-grams, each order thinned out of the one below."""
    length, found = rng.integers(4, 25, n), []
    for q in latent(rng, n, seeds, noise):
        share = norm.cdf(0.7 * q)
        said = np.maximum(1, length + rng.integers(-2, 3, n))
        matched, totals = [rng.binomial(said, share)], [said]
        for order in range(1, 4):
            totals.append(np.maximum(said - order, 0))
            room = np.minimum(np.maximum(matched[-1] - 1, 0), totals[-1])
            matched.append(rng.binomial(room, np.sqrt(share)))
        found.append(np.stack([said, length, *matched, *totals], axis=1).astype(float))
    return found


@dataclass(frozen=True, kw_only=True)
class Case:
    """One line of the coverage table."""

    name: str
    metric: Metric
    draw: Draw
    n: int
    seeds: int
    noise: float

    def truth(self) -> float:
        """Return the score expected of a new seed on very many rows."""
        rng, metric = np.random.default_rng(0), self.metric
        drawn = [self.draw(rng, 4000, 1, self.noise)[0].sum(axis=0) for _ in range(800)]
        return float(np.mean([float(metric.aggregate(total)) for total in drawn]))

    def coverage(self, tasks: int) -> tuple[float, float]:
        """Return the share of tasks whose interval holds the truth, and the mean width."""
        rng, truth, held, width = np.random.default_rng(1), self.truth(), 0, 0.0
        for task in range(tasks):
            statistics = tuple(self.draw(rng, self.n, self.seeds, self.noise))
            measured = Measured(
                name="a", statistics=statistics, binary=isinstance(self.metric, Accuracy)
            )
            found = limits(resample([measured], self.metric, task, REPLICATES)[0])
            held += found.low <= truth <= found.high
            width += found.high - found.low
        return held / tasks, width / tasks


def cases() -> list[Case]:
    """Return every setting of the coverage table."""
    even, skewed = partial(f1_rows, priors=(0.2,) * 5), (0.5, 0.3, 0.1, 0.06, 0.04)
    uneven = partial(f1_rows, priors=skewed)
    many = partial(f1_rows, priors=(1 / 30,) * 30)
    kinds: list[tuple[str, Metric, Draw, tuple[int, ...]]] = [
        ("accuracy", Accuracy(), accuracy_rows, (100, 1000)),
        ("macro-F1, 5 even labels", MacroF1(), even, (200,)),
        ("macro-F1, 5 uneven labels", MacroF1(), uneven, (300,)),
        ("macro-F1, 30 labels", MacroF1(), many, (500,)),
        ("BLEU", Bleu(), bleu_rows, (100,)),
        ("ROUGE-like mean", RougeL(), rouge_rows, (100,)),
    ]
    seeds = ((1, 0.0), (3, 0.1), (5, 0.1), (5, 0.3))
    return [
        Case(name=name, metric=metric, draw=draw, n=n, seeds=k, noise=noise)
        for name, metric, draw, sizes in kinds
        for n in sizes
        for k, noise in seeds
    ]
