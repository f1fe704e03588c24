"""Shares, kappa and correlation of observations that hang together, against known answers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from savile import stats

NAMES = ("a", "b", "tie")


def raters(n: int, same: float, seed: int) -> tuple[list[str], list[str]]:
    """Return two raters that agree on purpose in a share `same`, else by chance."""
    rng = np.random.default_rng(seed)
    one = rng.choice(NAMES, size=n, p=(0.5, 0.3, 0.2))
    other = np.where(rng.random(n) < same, one, rng.choice(NAMES, size=n, p=(0.2, 0.5, 0.3)))
    return one.tolist(), other.tolist()


def alone(n: int) -> list[str]:
    return [str(i) for i in range(n)]


@pytest.mark.parametrize("same", [0.0, 0.4, 0.9])
def test_kappa_is_that_of_scikit_learn(same: float) -> None:
    one, other = raters(120, same, seed=1)
    found = stats.kappa(one, other, alone(120))
    assert found is not None
    assert found.score == pytest.approx(cohen_kappa_score(one, other), abs=1e-12)
    assert found.low < found.score < found.high


def test_limits_of_kappa_hold_its_true_value() -> None:
    observed = 0.5 + 0.5 * (0.5 * 0.2 + 0.3 * 0.5 + 0.2 * 0.3)
    expected = 0.5 * 0.35 + 0.3 * 0.4 + 0.2 * 0.25
    true, held = (observed - expected) / (1 - expected), 0
    for seed in range(200):
        found = stats.kappa(*raters(80, 0.5, seed), alone(80))
        assert found is not None
        held += found.low <= true <= found.high
    assert 184 <= held < 200


def test_perfect_agreement_of_few_is_not_certain() -> None:
    one = ["a", "b"] * 6
    found = stats.kappa(one, one, alone(12))
    assert found is not None
    assert found.score == pytest.approx(1.0)
    assert 0.2 < found.low < 0.8


def test_kappa_of_one_category_says_nothing() -> None:
    assert stats.kappa(["a", "a"], ["a", "a"], alone(2)) is None
    always = stats.kappa(["a", "b"] * 20, ["a", "a"] * 20, alone(40))
    assert always is not None
    assert always.score == pytest.approx(0.0)


def test_a_share_of_independent_rows_is_wilsons() -> None:
    found = stats.share([1.0] * 8 + [0.0] * 2, [1.0] * 10, alone(10))
    assert found is not None
    assert found.score == pytest.approx(0.8)
    assert found.low == pytest.approx(0.49, abs=0.03)
    assert found.high == pytest.approx(0.943, abs=0.03)


def test_rows_that_hang_together_count_once() -> None:
    part = np.repeat(np.random.default_rng(0).integers(0, 2, 40), 10).astype(float).tolist()
    apart = stats.share(part, [1.0] * 400, alone(400))
    together = stats.share(part, [1.0] * 400, np.repeat(np.arange(40), 10).astype(str).tolist())
    assert apart is not None
    assert together is not None
    assert apart.score == pytest.approx(together.score)
    assert together.high - together.low > 2.5 * (apart.high - apart.low)


def test_a_share_of_nothing_is_none() -> None:
    assert stats.share([], [], []) is None
    assert stats.share([0.0], [0.0], ["a"]) is None


def test_rows_that_do_not_count_do_not_narrow_the_limits() -> None:
    few = stats.share([1.0] * 5, [1.0] * 5, alone(5))
    many = stats.share([1.0] * 5 + [0.0] * 95, [1.0] * 5 + [0.0] * 95, alone(100))
    assert few == many


def test_correlation_does_not_depend_on_which_is_called_first() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=200)
    y = 0.6 * x + 0.8 * rng.normal(size=200)
    turned = rng.choice([-1.0, 1.0], size=200)
    found = stats.correlation(x.tolist(), y.tolist(), alone(200))
    again = stats.correlation((turned * x).tolist(), (turned * y).tolist(), alone(200))
    assert found is not None
    assert found == again
    assert found.low < 0.6 < found.high
    doubled = np.corrcoef(np.concatenate([x, -x]), np.concatenate([y, -y]))[0, 1]
    assert found.score == pytest.approx(doubled)


def test_correlation_with_nothing_is_none() -> None:
    assert stats.correlation([0.0, 0.0], [1.0, -1.0], alone(2)) is None
