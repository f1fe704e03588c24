"""How sure a score and a difference are: intervals, paired comparisons, sample sizes.

A score has two sources of noise: which rows are in the test set, and which seed a technique was
tuned with. With m_k the score of seed k of K, and m their mean:

    Var(m) = V_rows + max(0, s^2 - I) / K
    V_rows = variance of m over bootstrap samples of the rows, the same for all seeds and techniques
    s^2    = sample variance of m_1 .. m_K
    I      = mean over bootstrap samples of their s^2, minus s^2: row noise of single seeds,
             which is in V_rows already

Limits lie sqrt(z^2 V_rows + t^2 V_seeds) away, t with K - 1 degrees of freedom (few seeds are paid
for), on Wilson's scale with p (1 - p) / Var(m) rows; for a right-or-wrong metric and one seed that
is Wilson's own interval. Comparisons are paired by row: McNemar's exact test (right or wrong, one
seed each), else Student's t of the difference with Satterthwaite's degrees of freedom and the
variance above plus one row won and one lost (Bonett and Price). One seed of chance is not compared.

A row picked for its high score flatters itself: its lower limit takes the quantile at alpha / (how
many might be picked) and the careful variance of seeds of comparisons; the upper limit stays.

Source: Wilson 1927; McNemar 1947; Satterthwaite 1946; Holm 1979; Zou and Donner 2008 (limits in
quadrature); Bonett and Price 2012 (paired difference); Koehn 2004, ACL W04-3250 (paired
bootstrap). What differs: the variance of seeds is added; resampled, five seeds are too narrow.
Cost: one matrix product [replicates, N] x [N, S] a seed. See `bench/coverage.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats as distributions

from savile.metrics.base import Array, Metric
from savile.types import Kind

REPLICATES = 2000
"""Bootstrap samples: an interval's width has a Monte Carlo error of about 1.6 %."""
CHUNK = 250
"""Bootstrap samples drawn at once: 8 * 250 * N bytes."""
ALPHA = 0.05
POWER = 0.8


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


class Interval(NamedTuple):
    """A score and its confidence limits, in the metric's own unit."""

    score: float
    low: float
    high: float


class Comparison(NamedTuple):
    """Score of `a` minus score of `b`, its limits, and the two-sided p-value of no difference."""

    difference: float
    low: float
    high: float
    p: float


class Spread(NamedTuple):
    """Variance of a score, or of a difference, and where it comes from."""

    rows: float
    seeds: float
    freedom: int
    """Degrees of freedom of `seeds`."""

    @property
    def total(self) -> float:
        """Variance of the mean over seeds."""
        return self.rows + self.seeds

    def quantile(self, confidence: float, candidates: int = 1) -> float:
        """Return how many standard errors away a limit is: normal for rows, t for seeds.

        Bonferroni's correction for `candidates` is on the rows only: t of few seeds has tails that
        are wide enough as they are (`bench/coverage.py`).
        """
        z = _normal_quantile(1 - (1 - confidence) / candidates)
        t = float(distributions.t.isf((1 - confidence) / 2, self.freedom))
        return (
            math.sqrt((self.rows * z**2 + self.seeds * t**2) / self.total) if self.total > 0 else z
        )


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
    typical: float = 0.0
    """Median over all techniques of the variance between seeds: the floor of careful claims."""

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


def interval(
    measured: Measured, metric: Metric, seed: int = 0, confidence: float = 1 - ALPHA
) -> Interval:
    """Return the score with its confidence limits, the noise of seeds included.

    Example: 8 right of 10 -> Interval(0.8, 0.490, 0.943).
    """
    return limits(resample([measured], metric, seed)[0], confidence)


def resample(
    measured: Sequence[Measured], metric: Metric, seed: int = 0, replicates: int = REPLICATES
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
    scores = np.split(plain, ends)
    return tuple(
        Resampled(measured=m, top=metric.top, scores=own, replicates=rows, typical=_typical(scores))
        for m, own, rows in zip(measured, scores, np.split(drawn, ends), strict=True)
    )


def limits(one: Resampled, confidence: float = 1 - ALPHA) -> Interval:
    """Return Wilson's interval, in which seeds and the metric set the effective number of rows."""
    noise = spread(one)
    return _wilson(one, noise.total, noise.quantile(confidence))


def limits_of_picked(one: Resampled, candidates: int) -> Interval:
    """Return 95 % limits of the row that was picked as the best of `candidates` on these rows."""
    plain, noise = limits(one), spread(one, careful=True)
    low = _wilson(one, noise.total, noise.quantile(1 - ALPHA, candidates)).low
    return plain if candidates == 1 else plain._replace(low=min(plain.low, low))


def _wilson(one: Resampled, variance: float, quantile: float) -> Interval:
    variance = 0.0 if one.exact else variance
    p = one.score / one.top
    if not 0 <= p <= 1:
        half = quantile * math.sqrt(variance)
        return Interval(one.score, one.score - half, one.score + half)
    rows = p * (1 - p) * one.top**2 / variance if variance > 0 and p < 1 else one.n
    pull = quantile**2 / max(rows, 1e-9)
    center = (p + pull / 2) / (1 + pull)
    half = math.sqrt(p * (1 - p) * pull + pull**2 / 4) / (1 + pull)
    low, high = max(0.0, center - half), min(1.0, center + half)
    return Interval(one.score, min(p, low) * one.top, max(p, high) * one.top)


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
        low, high = _bonett_price(won, lost, a.n)
        return Comparison(gap, low, high, mcnemar(won, lost))
    noise = spread(a, b)
    error = math.sqrt(noise.total)
    parts = noise.rows**2 / max(a.n - 1, 1) + noise.seeds**2 / noise.freedom
    freedom = max(1.0, noise.total**2 / parts)
    half = float(distributions.t.isf(ALPHA / 2, freedom)) * error
    p = float(2 * distributions.t.sf(abs(gap) / error, freedom))
    return Comparison(gap, max(-a.top, gap - half), min(a.top, gap + half), p)


def spread(a: Resampled, b: Resampled | None = None, *, careful: bool = False) -> Spread:
    """Return the variance of the score of `a`, or of the difference `a` minus `b`.

    A difference is always claimed with care, an interval when asked to: the row noise I stays in
    the seeds' variance, the smaller number of seeds sets its degrees of freedom, and it is at least
    the median over the board, because two or three seeds agree by chance too often.
    """
    n, means, careful = a.n, a.replicates.mean(axis=0), careful or b is not None
    rows = (
        float(np.var(means if b is None else means - b.replicates.mean(axis=0))) * n / max(n - 1, 1)
    )
    if b is not None:
        rows += 2 * (a.top / (n + 2)) ** 2
    parts = [part for part in (a, b) if part is not None and len(part.scores) > 1]
    if not parts:
        return Spread(rows, 0.0, 1)
    floor = a.typical if careful else 0.0
    seeds = sum(max(float(p.scores.var(ddof=1)), floor) / len(p.scores) for p in parts)
    if not careful:
        drawn = float(a.replicates.var(axis=0, ddof=1).mean()) / len(a.scores)
        seeds = max(0.0, seeds - (drawn - seeds))
    return Spread(rows, seeds, min(len(p.scores) for p in parts) - 1)


def mcnemar(won: int, lost: int) -> float:
    """Return the exact two-sided p-value of `won` rows against `lost` rows (McNemar 1947).

    Example: 8 rows won and 1 lost -> 0.0390625.
    """
    tail = distributions.binom.cdf(min(won, lost), won + lost, 0.5)
    return float(min(1.0, 2 * tail))


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
    z = float(distributions.norm.isf(alpha / 2) + distributions.norm.ppf(POWER))
    room = (gap / z) ** 2 - seed_variance
    return math.ceil(row_variance / room) if room > 0 else None


def _multiplicities(rng: np.random.Generator, replicates: int, n: int) -> Array:
    """Return how often each row is in each bootstrap sample: float64 [replicates, n]."""
    drawn = rng.integers(0, n, size=(replicates, n)) + n * np.arange(replicates)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=replicates * n)
    return counts.reshape(replicates, n).astype(np.float64)


def _typical(scores: Sequence[Array]) -> float:
    found = [float(own.var(ddof=1)) for own in scores if len(own) > 1]
    return float(np.median(found)) if found else 0.0


def _bonett_price(won: int, lost: int, n: int) -> tuple[float, float]:
    better, worse = (won + 1) / (n + 2), (lost + 1) / (n + 2)
    variance = (better + worse - (better - worse) ** 2) / (n + 2)
    half = _normal_quantile(1 - ALPHA) * math.sqrt(variance)
    return max(-1.0, better - worse - half), min(1.0, better - worse + half)


def _normal_quantile(confidence: float) -> float:
    return float(distributions.norm.isf((1 - confidence) / 2))
