"""The limit that holds at any time: seldom above the mean, near the exact one, the same by hand."""

import math

import numpy as np
import pytest

from savile.metrics.base import Array
from savile.stats import lower_limit
from savile.stats.sequence import MOST

WORLDS = {
    "right or wrong, 0.5": (np.array([0.0, 1.0]), np.array([0.5, 0.5]), 0.0),
    "right or wrong, 0.97": (np.array([0.0, 1.0]), np.array([0.03, 0.97]), 0.0),
    "parts of a row": (np.array([0.0, 0.3, 0.8, 1.0]), np.array([0.1, 0.2, 0.3, 0.4]), 0.0),
    "differences": (np.array([-1.0, 0.0, 1.0]), np.array([0.05, 0.85, 0.10]), -1.0),
    "differences, no rows alike": (np.array([-1.0, 1.0]), np.array([0.4, 0.6]), -1.0),
}


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_the_limit_of_any_look_is_above_the_mean_no_more_often_than_alpha(
    name: str, alpha: float
) -> None:
    values, chances, low = WORLDS[name]
    mean, rng, worlds = float(values @ chances), np.random.default_rng(7), 400
    above = 0
    for _ in range(worlds):
        drawn = rng.choice(values, size=120, p=chances)
        above += lower_limit(drawn, alpha, low=low) > mean  # the highest limit over all rows
    assert above <= worlds * alpha + 3 * math.sqrt(worlds * alpha * (1 - alpha))


def test_a_higher_mean_or_more_rows_or_a_larger_alpha_raise_the_limit() -> None:
    rng = np.random.default_rng(0)
    some = (rng.random(400) < 0.8).astype(float)
    more = np.maximum(some, rng.random(400) < 0.5)
    assert lower_limit(some[:100], 0.01) < lower_limit(some, 0.01) < lower_limit(more, 0.01)
    assert lower_limit(some, 0.001) < lower_limit(some, 0.01) < some.mean()


@pytest.mark.parametrize(
    ("right", "n", "alpha", "exact"),
    [(200, 200, 0.01, 0.9772), (190, 200, 0.01, 0.9018), (60, 100, 0.001, 0.4410)],
)
def test_the_limit_is_near_the_exact_binomial_one(
    right: int, n: int, alpha: float, exact: float
) -> None:
    """`exact` is Clopper and Pearson's lower limit, which may be looked at once."""
    rng, found = np.random.default_rng(1), []
    for _ in range(20):
        values = np.repeat([1.0, 0.0], [right, n - right])
        rng.shuffle(values)
        found.append(lower_limit(values, alpha))
    assert exact - 0.03 < np.mean(found) < exact


def by_hand(y: Array, alpha: float, mean: float) -> bool:
    """Return whether the bet against `mean` ever wins 1 / alpha, value by value."""
    wealth, total, squares = 1.0, 0.5, 0.25
    for i, value in enumerate(y):
        bet = math.sqrt(2 * math.log(1 / alpha) / (len(y) * squares / (i + 1)))
        wealth *= 1 + min(bet, MOST / mean) * (value - mean)
        if wealth >= 1 / alpha:
            return True
        total += value
        squares += (value - total / (i + 2)) ** 2
    return False


def test_the_limit_is_the_largest_mean_that_is_bet_away() -> None:
    y = np.random.default_rng(3).random(50) ** 0.3
    limit = lower_limit(y, 0.05)
    assert by_hand(y, 0.05, limit - 1e-6)
    assert not by_hand(y, 0.05, limit + 1e-6)
    assert lower_limit(20 * y - 10, 0.05, low=-10, high=10) == pytest.approx(20 * limit - 10)


def test_few_rows_say_nothing() -> None:
    assert lower_limit(np.ones(1), 0.01) < 0.1
    assert lower_limit(np.zeros(50), 0.01) == pytest.approx(0.0, abs=1e-9)
