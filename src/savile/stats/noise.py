"""The independent parts of a score's noise, and how far a limit lies away because of them.

A score has two sources of noise: which rows are in the test set, and which seed a technique was
tuned with. With m_k the score of seed k of K, and m their mean:

    Var(m) = V_rows + max(0, s^2 - I) / K
    V_rows = variance of m over bootstrap samples of the rows, the same for all seeds and techniques
    s^2    = sample variance of m_1 .. m_K
    I      = mean over bootstrap samples of their s^2, minus s^2: row noise of single seeds,
             which is in V_rows already

A limit lies sqrt(sum over parts of q^2 V) away, q the quantile of each part on its own: normal for
rows, Student's t with K - 1 degrees of freedom for seeds. (Satterthwaite's degrees of freedom for
the sum would take the smallness of a variance that three seeds found by chance for certainty.)

Where several techniques are looked at, two corrections apply. Of `many` normal deviations the
largest is taken, over one estimate of their standard deviation ("studentized maximum"): q solves
E[Phi(q S)^many] = 1 - tail with f S^2 ~ chi^2_f. And the variances of few seeds, which agree or
disagree by chance, borrow from each other: with d_0 and s_0^2 fitted to the variances found,

    s~^2 = (d_0 s_0^2 + d s^2) / (d_0 + d),    with d_0 + d degrees of freedom.

Source: Zou and Donner 2008 (limits in quadrature); Pillai and Ramachandran 1954 (studentized
maximum); Smyth 2004, doi:10.2202/1544-6115.1027, section 6.2 (moderated variances).
What differs: a variance is never moderated below what was found, because a technique that scatters
more than the others is picked more often; and d_0 is at most the sum of d^2 / (d + 2) over the
others, the degrees of freedom that Satterthwaite's formula finds for their mean when all are equal.
Cost: some microseconds for Student's t, about a millisecond for a studentized maximum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import digamma, gammaincinv, ndtr, ndtri, stdtrit, zeta

from savile.metrics.base import Array
from savile.stats.resample import Resampled

ALPHA = 0.05
CHI_POINTS = 400
"""Of the integral over S: the quantile's error is below 0.1 %."""
TINY = 1e-15
"""Probabilities are not told apart below."""


class Part(NamedTuple):
    """One independent source of noise."""

    variance: float
    freedom: float = math.inf
    """Degrees of freedom of the variance."""
    many: int = 1
    """Of how many such deviations the largest might have been picked."""


class Noise(NamedTuple):
    """What makes a score, or a difference, another one next time."""

    rows: Part
    seeds: tuple[Part, ...] = ()

    @property
    def variance(self) -> float:
        """Of all parts together."""
        return self.rows.variance + self.seed_variance

    @property
    def seed_variance(self) -> float:
        """What more rows do not reduce."""
        return sum(part.variance for part in self.seeds)

    def half_width(self, tail: float) -> float:
        """Return how far a limit lies from the score, for the probability `tail` beyond it."""
        parts = (self.rows, *self.seeds)
        return math.sqrt(sum(p.variance * quantile(tail, p.freedom, p.many) ** 2 for p in parts))

    def tail(self, distance: float) -> float:
        """Return the probability beyond `distance` > 0: the inverse of `half_width`."""
        if self.half_width(TINY) <= distance:
            return TINY
        low, high = math.log(TINY), math.log(0.5)
        found = brentq(lambda x: self.half_width(math.exp(x)) - distance, low, high, xtol=1e-6)
        return math.exp(found)


def noise_of(one: Resampled) -> Noise:
    """Return the noise of one technique's score."""
    n, k = one.n, len(one.scores)
    rows = float(np.var(one.replicates.mean(axis=0))) * n / max(n - 1, 1)
    if k == 1:
        return Noise(Part(rows))
    return Noise(Part(rows), (Part(max(0.0, one.seed_variance - one.row_noise) / k, k - 1),))


def noise_of_picked(one: Resampled, contenders: Sequence[Resampled]) -> Noise:
    """Return the noise of the highest of the `contenders`' scores, that of `one`."""
    plain, seeded = noise_of(one), [c for c in contenders if len(c.scores) > 1]
    rows = plain.rows._replace(many=len(contenders))
    if len(one.scores) == 1:
        return Noise(rows)
    variances, freedoms = moderated(seeded)
    own = next(i for i, c in enumerate(seeded) if c is one)
    between = max(0.0, float(variances[own]) - one.row_noise)
    seeds = Part(between / len(one.scores), float(freedoms[own]), len(seeded))
    return Noise(rows, (seeds,))


def noise_of_difference(a: Resampled, b: Resampled) -> Noise:
    """Return the noise of the score of `a` minus that of `b`.

    A difference is claimed with care: one row more is won and one lost (Bonett and Price), and the
    row noise I stays in the variance of the seeds.
    """
    n, apart = a.n, a.replicates.mean(axis=0) - b.replicates.mean(axis=0)
    rows = float(np.var(apart)) * n / max(n - 1, 1) + 2 * (a.top / (n + 2)) ** 2
    seeded = [one for one in (a, b) if len(one.scores) > 1]
    found = zip(seeded, *moderated(seeded), strict=True)
    return Noise(
        Part(rows), tuple(Part(float(v) / len(one.scores), float(f)) for one, v, f in found)
    )


def moderated(seeded: Sequence[Resampled]) -> tuple[Array, Array]:
    """Return the moderated variances between seeds, and their degrees of freedom: both [T].

    Args:
        seeded: T techniques with at least two seeds each.
    """
    found = np.array([one.seed_variance for one in seeded])
    d = np.array([len(one.scores) - 1.0 for one in seeded])
    if len(seeded) < 2:
        return found, d
    s2 = np.maximum(found, [(one.top / one.n) ** 2 for one in seeded])  # one row right or wrong
    borrowed = d**2 / (d + 2)
    most = borrowed.sum() - borrowed
    logs = np.log(s2) - digamma(d / 2) + np.log(d / 2)
    excess = float(logs.var(ddof=1) - zeta(2, d / 2).mean())
    d0 = 2 * _inverse_trigamma(excess)
    fitted = math.exp(logs.mean() + digamma(d0 / 2) - math.log(d0 / 2)) if d0 < math.inf else 0.0
    prior = np.where(d0 < most, fitted, s2.mean())
    weight = np.minimum(d0, most)
    return np.maximum(found, (weight * prior + d * s2) / (weight + d)), weight + d


def quantile(tail: float, freedom: float = math.inf, many: int = 1) -> float:
    """Return what the largest of `many` normal deviations exceeds with probability `tail`.

    Args:
        tail: one-sided, below 0.5.
        freedom: degrees of freedom of the estimated standard deviation they are divided by.
        many: independent deviations, at least 1.

    Example: quantile(0.025) -> 1.960, with 2 degrees of freedom 4.303, and of 12 deviations 10.8.
    """
    if math.isinf(freedom):
        return float(-ndtri(-math.expm1(math.log1p(-tail) / many)))
    if many == 1:
        return float(-stdtrit(freedom, tail))
    middles = (np.arange(CHI_POINTS) + 0.5) / CHI_POINTS
    s = np.sqrt(gammaincinv(freedom / 2, middles) / (freedom / 2))
    alone, bonferroni = -stdtrit(freedom, tail), -stdtrit(freedom, tail / many)
    found: float = brentq(
        lambda q: 1 - tail - np.mean(ndtr(q * s) ** many), 0.9 * alone, 1.1 * bonferroni
    )
    return found


def _inverse_trigamma(value: float) -> float:
    """Return x with trigamma(x) = value; infinity for values near or below 0."""
    low, high = 1e-4, 1e4
    if value <= zeta(2, high):
        return math.inf
    found: float = brentq(lambda x: zeta(2, x) - value, low, high, xtol=1e-4)
    return found
