"""Quantiles, moderated variances, and the parts that a limit is made of."""

import math

import numpy as np
import pytest
from scipy import stats as distributions
from scipy.special import polygamma

from savile.stats.noise import Noise, Part, moderated, noise_of_difference, quantile
from savile.stats.resample import Measured, Resampled


def seeded(*scores: float, n: int = 100) -> Resampled:
    """Seeds of these scores, without row noise."""
    rows = (np.ones((n, 2)),) * len(scores)
    return Resampled(
        measured=Measured(name="a", statistics=rows, binary=True),
        top=1.0,
        scores=np.array(scores),
        replicates=np.repeat(np.array(scores)[:, None], 3, axis=1),
    )


@pytest.mark.parametrize("freedom", [1, 2, 4, 30])
def test_one_deviation_is_students_t(freedom: int) -> None:
    assert quantile(0.025, freedom) == pytest.approx(distributions.t.isf(0.025, freedom))


def test_without_a_doubt_about_the_variance_it_is_normal_and_sidaks() -> None:
    assert quantile(0.025) == pytest.approx(1.959964)
    assert quantile(0.025, many=12) == pytest.approx(distributions.norm.ppf(0.975 ** (1 / 12)))
    assert quantile(0.025, 1e5, 12) == pytest.approx(quantile(0.025, many=12), rel=2e-3)


@pytest.mark.parametrize(("freedom", "many"), [(2, 2), (2, 12), (8, 6), (24, 12)])
def test_the_studentized_maximum_is_exceeded_as_often_as_said(freedom: int, many: int) -> None:
    rng, draws = np.random.default_rng(0), 200_000
    largest = rng.normal(size=(draws, many)).max(axis=1)
    largest /= np.sqrt(rng.chisquare(freedom, size=draws) / freedom)
    assert np.mean(largest > quantile(0.025, freedom, many)) == pytest.approx(0.025, rel=0.06)


def test_parts_add_in_quadrature_and_the_tail_is_the_inverse() -> None:
    noise = Noise(Part(0.0004), (Part(0.0009, 2), Part(0.0001, 4)))
    z, t2, t4 = 1.959964, 4.302653, 2.776445
    expected = math.sqrt(0.0004 * z**2 + 0.0009 * t2**2 + 0.0001 * t4**2)
    assert noise.half_width(0.025) == pytest.approx(expected)
    assert (noise.variance, noise.seed_variance) == pytest.approx((0.0014, 0.0010))
    for tail in (0.4, 0.025, 1e-6):
        assert noise.tail(noise.half_width(tail)) == pytest.approx(tail, rel=1e-4)
    assert Noise(Part(1e-9)).tail(1.0) <= 1e-15


def test_variances_that_are_alike_are_pooled_but_none_falls_below_its_own() -> None:
    board = [seeded(0.8, 0.81, 0.82), seeded(0.7, 0.72, 0.74), seeded(0.7, 0.7, 0.73)]
    found = np.array([one.seed_variance for one in board])
    variances, freedoms = moderated(board)
    assert freedoms == pytest.approx([2 + 2 * 2**2 / 4] * 3)
    assert variances == pytest.approx(np.maximum(found, (2 * found.mean() + 2 * found) / 4))
    assert variances[0] > found[0]


def test_variances_that_differ_keep_to_themselves() -> None:
    spreads = (0.9, 0.01), (0.8, 0.011), (0.7, 0.3)
    board = [seeded(p - s, p, p + s, p, n=1000) for p, s in spreads]
    found = np.array([one.seed_variance for one in board])
    variances, freedoms = moderated(board)
    prior = float(freedoms[0]) - 3
    assert 0 < prior < 2 * 3**2 / 5
    # Smyth 2004: trigamma(d_0 / 2) is what the variance of the logarithms has too much.
    excess = np.log(found).var(ddof=1) - polygamma(1, 1.5)
    assert polygamma(1, prior / 2) == pytest.approx(excess, rel=1e-3)
    assert variances[2] == found[2]
    assert variances[0] < found[2] / 100


def test_a_lone_technique_with_seeds_borrows_from_nobody() -> None:
    one = seeded(0.8, 0.9)
    variances, freedoms = moderated([one])
    assert (float(variances[0]), float(freedoms[0])) == (one.seed_variance, 1.0)


def test_a_difference_of_two_with_seeds_has_the_noise_of_both() -> None:
    a, b = seeded(0.80, 0.82, 0.84), seeded(0.70, 0.71, 0.72, 0.73, 0.74)
    noise = noise_of_difference(a, b)
    variances, freedoms = moderated([a, b])
    assert noise.rows.variance == pytest.approx(2 / 102**2)
    assert [part.variance for part in noise.seeds] == pytest.approx(variances / [3, 5])
    assert [part.freedom for part in noise.seeds] == pytest.approx(freedoms)
    assert noise_of_difference(a, seeded(0.7)).seeds == (Part(a.seed_variance / 3, 2.0),)
