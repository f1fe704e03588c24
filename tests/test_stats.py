"""Intervals that cover, comparisons that do not cry wolf, and the closed forms both are made of."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as distributions
from scipy.stats.contingency import crosstab

from savile.metrics.accuracy import Accuracy
from savile.metrics.base import Array, Metric
from savile.metrics.bleu import Bleu
from savile.metrics.macro_f1 import MacroF1
from savile.metrics.token_f1 import TokenF1
from savile.stats import (
    Comparison,
    Measured,
    difference,
    holm,
    interval,
    limits,
    limits_of_picked,
    mcnemar,
    resample,
    rows_needed,
)


def compare(a: Measured, b: Measured, metric: Metric, seed: int = 0) -> Comparison:
    """Resample both with one seed, so on the same rows, and compare."""
    return difference(*resample([a, b], metric, seed))


def rows(values: Array) -> Array:
    return np.stack([values.astype(np.float64), np.ones(len(values))], axis=1)


def right(name: str, *seeds: Array, binary: bool = True) -> Measured:
    return Measured(name=name, statistics=tuple(rows(s) for s in seeds), binary=binary)


def worlds(
    rng: np.random.Generator, n: int, accuracy: float, seeds: tuple[int, ...], noise: float
) -> list[Measured]:
    """Techniques of equal true accuracy; they share hard rows, seeds differ by `noise`."""
    shared, found = rng.normal(size=n), []
    for number, k in enumerate(seeds):
        own = 0.6 * shared + 0.8 * rng.normal(size=n)
        sd = noise if k > 1 else 0.0
        bar = -distributions.norm.ppf(accuracy) * math.sqrt(1 + sd**2)
        mixed = [0.8 * own + 0.6 * rng.normal(size=n) + rng.normal(0, sd) for _ in range(k)]
        found.append(right(f"t{number}", *[(m > bar) for m in mixed]))
    return found


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (8, 10), (10, 10), (150, 200), (1, 3000)])
def test_one_seed_right_or_wrong_is_wilson(hits: int, n: int) -> None:
    found = interval(right("a", np.arange(n) < hits), Accuracy())
    wilson = distributions.binomtest(hits, n).proportion_ci(method="wilson")
    assert list(found) == pytest.approx([hits / n, wilson.low, wilson.high], abs=1e-9)


def test_a_mean_of_rows_has_about_students_interval() -> None:
    values = np.random.default_rng(1).beta(5, 5, size=400)
    found = interval(right("a", values, binary=False), TokenF1())
    half = 1.966 * values.std(ddof=1) / 20
    assert found.score == pytest.approx(values.mean())
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.06)


@pytest.mark.parametrize(
    ("n", "accuracy", "k", "noise"),
    [(200, 0.8, 1, 0.0), (200, 0.8, 5, 0.1), (100, 0.95, 5, 0.1), (300, 0.7, 3, 0.3)],
)
def test_intervals_cover_the_true_accuracy(n: int, accuracy: float, k: int, noise: float) -> None:
    covered, tasks = 0, 300
    rng = np.random.default_rng(7)
    for task in range(tasks):
        (measured,) = worlds(rng, n, accuracy, (k,), noise)
        (one,) = resample([measured], Accuracy(), task, replicates=200)
        found = limits(one)
        covered += found.low <= accuracy <= found.high
    assert 0.91 <= covered / tasks <= 0.99


def test_ignoring_the_seeds_would_not_cover() -> None:
    rng = np.random.default_rng(8)
    tasks = [worlds(rng, 300, 0.7, (5,), 0.3)[0] for _ in range(100)]
    naive = 0
    for measured in tasks:
        means = np.mean([s[:, 0] for s in measured.statistics], axis=0)
        half = 1.96 * means.std() / math.sqrt(300)
        naive += abs(means.mean() - 0.7) <= half
    assert naive / 100 < 0.7


def test_macro_f1_and_bleu_intervals_hold_the_score_and_stay_in_range() -> None:
    rng = np.random.default_rng(2)
    truth = rng.choice(list("abc"), 80)
    said = np.where(rng.random(80) < 0.7, truth, rng.choice(list("abc"), 80))
    metrics: list[tuple[Metric, Array]] = [
        (MacroF1(), MacroF1().statistics(list(said), [[t] for t in truth], "abc")),
        (Bleu(), Bleu().statistics(["a b c d e"] * 79 + ["f"], [["a b c d e f"]] * 80, ())),
    ]
    for metric, statistics in metrics:
        found = interval(Measured(name="a", statistics=(statistics,), binary=False), metric)
        assert found.score == pytest.approx(float(metric.aggregate(statistics.sum(axis=0))))
        assert 0 <= found.low < found.score < found.high <= metric.top


@pytest.mark.parametrize(
    ("won", "lost", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 0.0625), (8, 1, 0.0390625), (1, 8, 0.0390625), (3, 3, 1.0)],
)
def test_mcnemar_by_hand(won: int, lost: int, p: float) -> None:
    assert mcnemar(won, lost) == pytest.approx(p)


@pytest.mark.parametrize(("won", "lost"), [(4, 11), (55, 45), (700, 620), (4000, 100)])
def test_mcnemar_is_the_sign_test(won: int, lost: int) -> None:
    wanted = distributions.binomtest(won, won + lost).pvalue
    assert mcnemar(won, lost) == pytest.approx(wanted, rel=1e-9, abs=1e-300)


def test_a_pair_of_single_seeds_is_mcnemar_on_the_discordant_rows() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.random(120) < 0.8, rng.random(120) < 0.65
    found = compare(right("a", a), right("b", b), Accuracy())
    table = crosstab(a, b).count
    expected = distributions.binomtest(int(table[1, 0]), int(table[1, 0] + table[0, 1])).pvalue
    assert found.p == pytest.approx(expected)
    assert found.difference == pytest.approx(a.mean() - b.mean())
    assert found.low < found.difference < found.high


@pytest.mark.parametrize("n", [10, 30, 300])
def test_limits_exclude_0_where_the_exact_test_does(n: int) -> None:
    both = [(won, lost) for won in range(min(n, 24)) for lost in range(won + 1) if won + lost <= n]
    for won, lost in both:
        a, b = (np.arange(n) < won), (np.arange(n) >= n - lost)
        found = compare(right("a", a), right("b", b), Accuracy())
        assert (found.low > 0) == (found.p < 0.05), (won, lost)
        turned = compare(right("b", b), right("a", a), Accuracy())
        assert (turned.high < 0) == (turned.p < 0.05), (won, lost)


def test_one_seed_of_chance_is_compared_with_nothing() -> None:
    a, b = right("a", np.ones(200)), right("b", np.zeros(200))
    for lucky in (replace(a, stochastic=True), replace(a, kind="tuned")):
        assert compare(lucky, b, Accuracy()) == Comparison(1.0, -1.0, 1.0, 1.0)
        assert compare(b, lucky, Accuracy()).p == 1.0
    assert compare(a, b, Accuracy()).p < 1e-6


@pytest.mark.parametrize(("seeds", "noise"), [((1,) * 12, 0.0), ((3,) * 6, 0.2)])
def test_the_interval_of_the_picked_row_covers(seeds: tuple[int, ...], noise: float) -> None:
    rng, tasks, held, naive = np.random.default_rng(12), 100, 0, 0
    for task in range(tasks):
        board = resample(worlds(rng, 150, 0.8, seeds, noise), Accuracy(), task, replicates=100)
        best = max(board, key=lambda one: one.score)
        plain, found = limits(best), limits_of_picked(best, board)
        assert found.high == plain.high
        held += found.low <= 0.8 <= found.high
        naive += plain.low <= 0.8 <= plain.high
    assert held / tasks >= 0.94
    assert naive < held


def test_a_comparison_turned_round_is_its_mirror() -> None:
    rng = np.random.default_rng(4)
    a = right("a", *(rng.random((3, 90)) < 0.8))
    b = right("b", rng.random(90) < 0.6)
    there, back = compare(a, b, Accuracy()), compare(b, a, Accuracy())
    assert (back.difference, back.low, back.high) == pytest.approx(
        (-there.difference, -there.high, -there.low)
    )
    assert back.p == pytest.approx(there.p)


@pytest.mark.parametrize("seeds", [(1, 1), (5, 1), (5, 3), (2, 2)])
def test_identical_answers_are_no_difference(seeds: tuple[int, int]) -> None:
    values = np.arange(50) < 40
    a, b = (right(str(k), *[values] * k) for k in seeds)
    found = compare(a, b, Accuracy())
    assert found.p == pytest.approx(1.0)
    assert found.low <= 0 <= found.high


def test_a_sweep_without_any_variance_is_significant() -> None:
    a, b = right("a", *[np.ones(50)] * 3), right("b", *[np.zeros(50)] * 2)
    found = compare(a, b, Accuracy())
    assert found.p < 1e-3
    assert found.high <= 1.0


def test_a_large_difference_in_a_corpus_metric_is_found() -> None:
    good = Bleu().statistics(["the cat sat on the mat"] * 40, [["the cat sat on the mat"]] * 40, ())
    poor = Bleu().statistics(["the dog sat on a mat"] * 40, [["the cat sat on the mat"]] * 40, ())
    a, b = (Measured(name=n, statistics=(s,), binary=False) for n, s in [("a", good), ("b", poor)])
    found = compare(a, b, Bleu())
    assert found.p < 0.001
    assert found.low > 0


@pytest.mark.parametrize("seeds", [(1,) * 6, (1, 1, 5, 5, 5, 5), (1, 1, 3, 3, 3, 3)])
def test_worlds_without_a_difference_seldom_show_one(seeds: tuple[int, ...]) -> None:
    rng, wrong, tasks = np.random.default_rng(11), 0, 100
    for task in range(tasks):
        board = resample(worlds(rng, 150, 0.8, seeds, 0.1), Accuracy(), task, replicates=200)
        pairs = [(a, b) for i, a in enumerate(board) for b in board[:i]]
        wrong += min(holm([difference(a, b).p for a, b in pairs])) < 0.05
    assert wrong / tasks <= 0.09


def test_holm_by_hand_and_in_the_given_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_rows_needed_gives_80_percent_power() -> None:
    needed = rows_needed(0.05, row_variance=0.2)
    assert needed == math.ceil(0.2 * ((1.959964 + 0.841621) / 0.05) ** 2)
    rng = np.random.default_rng(5)
    draws = rng.normal(0.05, math.sqrt(0.2 / needed), size=20_000)
    assert np.mean(np.abs(draws) > 1.96 * math.sqrt(0.2 / needed)) == pytest.approx(0.8, abs=0.02)


def test_rows_needed_knows_when_rows_do_not_help() -> None:
    assert rows_needed(0.0, row_variance=0.2) is None
    assert rows_needed(0.01, row_variance=0.2, seed_variance=0.01) is None


def test_same_seed_same_numbers_and_another_seed_nearly_the_same() -> None:
    rng = np.random.default_rng(6)
    measured = right("a", *(rng.random((3, 100)) < 0.8))
    first = interval(measured, Accuracy(), seed=1)
    assert first == interval(measured, Accuracy(), seed=1)
    assert list(first) == pytest.approx(list(interval(measured, Accuracy(), seed=2)), abs=0.01)


def test_techniques_must_share_their_rows() -> None:
    a, b = right("a", np.ones(3)), right("b", np.ones(4))
    with pytest.raises(ValueError, match="same rows"):
        compare(a, b, Accuracy())
    with pytest.raises(ValueError, match="at least one"):
        interval(right("a", np.ones(0)), Accuracy())


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_rows_do_not_crash(n: int) -> None:
    a, b = right("a", np.ones(n), np.zeros(n)), right("b", np.ones(n))
    found = compare(a, b, Accuracy())
    assert found.p > 0.05
    assert all(map(math.isfinite, [*found, *interval(a, Accuracy())]))
