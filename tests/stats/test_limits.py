"""The limits of a picked row: what a rival may change, and what it may not."""

import math

import numpy as np
import pytest
from scipy import stats as distributions

from savile.metrics.accuracy import Accuracy
from savile.metrics.base import Array
from savile.stats.limits import contenders, limits, limits_of_picked, limits_of_picked_gain
from savile.stats.resample import Measured, Resampled, resample

N = 300


def technique(name: str, *accuracies: float) -> Measured:
    """Right on the first `accuracy * N` rows of each seed."""
    rows = [np.arange(N) < round(a * N) for a in accuracies]
    return Measured(name=name, statistics=tuple(statistics(r) for r in rows), binary=True)


def statistics(right: Array) -> Array:
    return np.stack([right.astype(np.float64), np.ones(len(right))], axis=1)


def board(*measured: Measured) -> tuple[Resampled, ...]:
    return resample(measured, Accuracy(), replicates=500)


QUIET = technique("full", 0.99, 0.98, 0.99)


def test_rivals_far_below_change_nothing_however_much_they_scatter() -> None:
    wild = [technique(f"wild{i}", 0.4, 0.6, 0.8) for i in range(5)]
    every = board(QUIET, *wild)
    assert contenders(every[0], every) == (every[0],)
    assert limits_of_picked(every[0], every) == limits(every[0])


def test_contenders_pull_the_lower_end_down_and_leave_the_upper_end() -> None:
    lows = []
    for many in (1, 2, 6):
        every = board(QUIET, *[technique(f"t{i}", 0.97, 0.98, 0.98) for i in range(many - 1)])
        assert len(contenders(every[0], every)) == many
        found, plain = limits_of_picked(every[0], every), limits(every[0])
        assert (found.score, found.high) == (plain.score, plain.high)
        lows.append(found.low)
    assert lows == sorted(lows, reverse=True)
    assert len(set(lows)) == 3


@pytest.mark.parametrize(("score", "near"), [(0.86, True), (0.85, True), (0.84, False)])
def test_a_contender_is_as_near_as_both_limits_reach_in_quadrature(
    score: float, near: bool
) -> None:
    every = board(technique("a", 0.9), technique("b", score))
    low = distributions.binomtest(270, N).proportion_ci(method="wilson").low
    high = distributions.binomtest(round(score * N), N).proportion_ci(method="wilson").high
    assert near == (0.9 - score <= math.hypot(0.9 - low, high - score))
    assert contenders(every[0], every) == (every if near else every[:1])


@pytest.mark.parametrize("score", [0.1, 0.3, 0.5, 0.75, 0.8])
@pytest.mark.parametrize("seeds", [1, 3])
def test_rows_of_one_score_have_limits_whatever_their_sum_is_rounded_to(
    score: float, seeds: int
) -> None:
    same = np.stack([np.full(20, score), np.ones(20)], axis=1)
    one = Measured(name="one_shot", statistics=(same,) * seeds, binary=False)
    found = limits(board(one)[0])
    wilson = distributions.binomtest(10, 20).proportion_ci(method="wilson")
    assert found.high - found.low > (wilson.high - wilson.low) / 2


def test_one_seed_right_or_wrong_is_wilson_at_sidaks_level() -> None:
    every = board(*[technique(name, 0.9) for name in "abcd"])
    found = limits_of_picked(every[0], every)
    level = 1 - 2 * (1 - 0.975 ** (1 / 4))
    wilson = distributions.binomtest(270, N).proportion_ci(level, method="wilson")
    assert found.low == pytest.approx(wilson.low, abs=1e-9)


@pytest.mark.parametrize(
    "noises", [(0.0, 0.0, 0.0, 0.4, 0.4, 0.4), (0.3, 0.3), (0.0, 0.0, 0.0, 0.0, 0.0, 0.4)]
)
def test_the_limits_cover_when_some_scatter_over_three_seeds(noises: tuple[float, ...]) -> None:
    rng, tasks, held, naive = np.random.default_rng(3), 120, 0, 0
    for task in range(tasks):
        shared, measured = rng.normal(size=400), []
        for sd in noises:
            bar = -distributions.norm.ppf(0.8) * math.sqrt(1 + sd**2)
            own = 0.8 * shared + 0.4 * rng.normal(size=400)
            rest = math.sqrt(1 - 0.8**2 - 0.4**2)
            right = [own + rest * rng.normal(size=400) + rng.normal(0, sd) > bar for _ in range(3)]
            rows = tuple(statistics(r) for r in right)
            measured.append(Measured(name=str(len(measured)), statistics=rows, binary=True))
        every = resample(measured, Accuracy(), task, replicates=100)
        best = max(every, key=lambda one: one.score)
        found, plain = limits_of_picked(best, every), limits(best)
        held += found.low <= 0.8 <= found.high
        naive += plain.low <= 0.8 <= plain.high
    assert held / tasks >= 0.92
    assert naive < held


def test_the_gain_of_the_best_of_many_has_a_lower_limit_further_away() -> None:
    gains = np.r_[np.full(32, 0.6), np.full(32, -0.4)]
    alone, best = (limits_of_picked_gain(gains, many=many) for many in (1, 8))
    assert alone.score == best.score == pytest.approx(0.1)
    assert alone.high == best.high == pytest.approx(0.1 + 1.998 * gains.std(ddof=1) / 8, abs=1e-4)
    assert best.low < alone.low == pytest.approx(0.2 - alone.high)
