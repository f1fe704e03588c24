"""The verdict's words, its tie set, and that it does not see winners where there are none."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from savile.ladder.verdict import Costs, Start, verdict
from savile.metrics.accuracy import Accuracy
from savile.metrics.bleu import Bleu
from savile.stats import Measured
from savile.types import Kind

N = 300


def technique(name: str, *accuracies: float, kind: Kind = "prompt", n: int = N) -> Measured:
    """Right on the first `accuracy * n` rows of each seed, so that techniques nest."""
    rows = [np.arange(n) < round(a * n) for a in accuracies]
    statistics = tuple(np.stack([r.astype(np.float64), np.ones(n)], axis=1) for r in rows)
    return Measured(name=name, statistics=statistics, binary=True, kind=kind)


def majority(accuracy: float, n: int = N) -> Measured:
    return technique("majority", accuracy, kind="baseline", n=n)


def noisy(name: str, accuracy: float, seed: int, n: int = N) -> Measured:
    rng = np.random.default_rng(seed)
    right = (rng.random(n) < accuracy).astype(np.float64)
    return Measured(name=name, statistics=(np.stack([right, np.ones(n)], axis=1),), binary=True)


def test_a_clear_winner_stands_alone() -> None:
    found = verdict(
        [majority(0.4), technique("zero_shot", 0.6), technique("lora", *[0.9] * 3, kind="tuned")],
        Accuracy(),
    )
    assert (found.winner, found.tied_with, found.decided, found.more_rows) == (
        "lora",
        (),
        True,
        None,
    )
    assert found.text.startswith("lora wins with 0.900: a difference of 0.300 (95 % interval")
    assert "p < 0.001" in found.text
    assert "zero_shot (0.600)" in found.text
    assert "the lower end allows for picking the best of 2 on them" in found.text
    assert [c["b"] for c in found.comparisons] == ["zero_shot", "majority"]
    assert all(c["p_holm"] >= c["p"] for c in found.comparisons)


def test_a_tie_names_the_tied_the_cheapest_and_how_many_rows_would_tell() -> None:
    board = [majority(0.3), noisy("lora", 0.82, 1), noisy("few_shot", 0.8, 2)]
    found = verdict(board, Accuracy(), costs=Costs("USD", {"lora": 5.0, "few_shot": 1.0}))
    assert {found.winner, *found.tied_with} == {"lora", "few_shot"}
    assert not found.decided
    assert "may be just as good" in found.text
    assert "take few_shot: it is the cheapest of them in USD." in found.text
    assert found.more_rows is not None
    assert f"about {found.more_rows:,} more test rows (same difference, 80 % power)" in found.text


def of_pairs(name: str, *rows: tuple[int, int]) -> Measured:
    """Right on the given ranges of 200 rows."""
    right = np.zeros(200)
    for start, end in rows:
        right[start:end] = 1
    statistics = (np.stack([right, np.ones(200)], axis=1),)
    return Measured(name=name, statistics=statistics, binary=True)


def test_an_interval_of_one_pair_beside_a_p_of_all_pairs_says_so() -> None:
    """13 rows won and 3 lost: alone the best is better, among six pairs it may be luck."""
    two = [of_pairs("a", (0, 163)), of_pairs("b", (13, 166))]
    alone = verdict(two, Accuracy())
    assert "a difference of 0.050 (95 % interval 0.009 to 0.090; p = 0.021)" in alone.text
    more = [of_pairs("c", (14, 164)), of_pairs("d", (16, 165))]
    found = verdict([*two, *more], Accuracy())
    assert (
        "now it is a difference of 0.050 (95 % interval 0.009 to 0.090 for this pair alone; "
        "p = 0.085 corrected for 6 comparisons)"
    ) in found.text


@pytest.mark.parametrize("costs", [None, Costs("USD", {"a": 1.0, "b": 1.0})])
def test_no_recommendation_by_cost_without_a_difference(costs: Costs | None) -> None:
    found = verdict([noisy("a", 0.8, 1), noisy("b", 0.8, 2)], Accuracy(), costs=costs)
    assert "cheapest" not in found.text


def test_equally_cheap_techniques_are_all_named() -> None:
    board = [noisy("a", 0.8, 1), noisy("b", 0.8, 2), noisy("c", 0.8, 3)]
    costs = Costs("USD for labels", {"a": 1.0, "b": 2.0, "c": 1.0})
    text = verdict(board, Accuracy(), costs=costs).text
    said = re.search(r"take (\w) or (\w): they are the cheapest of them in USD for labels\.", text)
    assert said is not None
    assert {said[1], said[2]} == {"a", "c"}


@pytest.mark.parametrize("score", [0.55, 0.61, 0.45])
def test_no_technique_beats_the_baseline_is_the_headline(score: float) -> None:
    rng = np.random.default_rng(0)
    base, other = rng.random(N) < 0.6, rng.random(N) < score
    rows = [np.stack([r.astype(np.float64), np.ones(N)], axis=1) for r in (base, other)]
    board = [
        Measured(name="majority", statistics=(rows[0],), binary=True, kind="baseline"),
        Measured(name="lora", statistics=(rows[1],), binary=True, kind="tuned"),
    ]
    found = verdict(board, Accuracy())
    above = other.mean() > base.mean()
    opening = "No technique is shown to beat" if above else "No technique beats"
    assert found.text.startswith(f"{opening} the majority baseline")
    assert found.winner is None
    assert not found.decided


def test_equal_scores_are_not_decided_by_any_number_of_rows() -> None:
    found = verdict([technique("a", 0.8), technique("b", 0.8)], Accuracy())
    assert found.tied_with == ("b",)
    assert found.more_rows is None
    assert "have the same score" in found.text


def test_seed_noise_is_said_and_stands_in_the_way() -> None:
    board = [technique("lora", 0.7, 0.9, 0.8, kind="tuned"), technique("few_shot", 0.78)]
    found = verdict(board, Accuracy())
    assert found.tied_with == ("few_shot",)
    assert "Its 3 seeds scored 0.700 to 0.900" in found.text
    assert "noise of the seeds" in found.text


@pytest.mark.parametrize(
    ("lora", "zero_shot", "words"),
    [
        (0.9, 0.6, "lora scored highest (0.900), but with one seed; one seed cannot tell"),
        (0.6, 0.9, "zero_shot scored highest (0.900), but lora was measured with one seed"),
    ],
)
def test_one_seed_of_chance_decides_nothing(lora: float, zero_shot: float, words: str) -> None:
    board = [
        majority(0.3),
        technique("lora", lora, kind="tuned"),
        technique("zero_shot", zero_shot),
    ]
    found = verdict(board, Accuracy(), costs=Costs("USD", {"lora": 2.0, "zero_shot": 1.0}))
    assert found.text.startswith(f"Not decided: {words}")
    assert "set `seeds: 3`" in found.text
    assert "just as good" not in found.text
    assert "cheapest" not in found.text
    assert found.winner == ("lora" if lora > zero_shot else "zero_shot")
    assert len(found.tied_with) == 1
    assert (found.decided, found.more_rows) == (False, None)
    assert found.comparisons[0]["p_holm"] == 1.0


def test_drawn_demonstrations_are_chance_and_rows_without_chance_are_still_told_apart() -> None:
    drawn = replace(technique("few_shot", 0.85), stochastic=True)
    found = verdict([technique("a", 0.9), drawn, technique("b", 0.6), majority(0.3)], Accuracy())
    assert found.tied_with == ("few_shot",)
    assert {c["b"] for c in found.comparisons if c["p_holm"] < 0.001} == {"b", "majority"}


def test_one_seed_alone_above_the_baseline_is_not_decided() -> None:
    found = verdict([majority(0.3), technique("lora", 0.9, kind="tuned")], Accuracy())
    assert found.winner == "lora"
    assert not found.decided
    assert "this one seed of lora would score" in found.text


def test_a_far_lower_score_of_scattered_seeds_is_not_just_as_good() -> None:
    few = technique("few_shot", 0.99, 0.99, 0.98)
    lora = technique("lora", 0.3, 0.53, 1.0, kind="tuned")
    found = verdict([technique("best", 1.0, 1.0, 0.99), lora, few], Accuracy())
    assert found.tied_with == ("few_shot", "lora")
    assert "but few_shot may be just as good" in found.text
    assert (
        "Also not decided: the seeds scatter too much to tell whether lora (0.610, its seeds 0.300 "
        "to 1.000) is worse."
    ) in found.text
    alone = verdict([technique("best", 1.0, 1.0, 0.99), lora], Accuracy()).text
    assert alone.startswith("Not decided: best scored highest (0.997), but the seeds scatter")
    assert "just as good" not in alone


def test_too_few_rows_are_insufficient() -> None:
    found = verdict([majority(0.2, 20), technique("lora", 1.0, n=20)], Accuracy())
    assert found.text.startswith("Insufficient: 20 test rows")
    assert not found.decided


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        (0.8, "is reached: the whole interval lies above it"),
        (0.89, "is reached on this test, but not for certain"),
        (0.92, "is not reached on this test, but not out of reach"),
        (0.99, "is not reached: the whole interval lies below it"),
    ],
)
def test_the_goal_is_judged_by_the_interval(goal: float, words: str) -> None:
    found = verdict([technique("lora", 0.9), technique("x", 0.1)], Accuracy(), goal=goal)
    assert f"The goal of {goal:.3f} {words}" in found.text


def test_boards_of_nothing_one_and_baselines_only() -> None:
    assert verdict([], Accuracy()).winner is None
    alone = verdict([technique("zero_shot", 0.5)], Accuracy())
    assert alone.winner == "zero_shot"
    assert "No other technique has a score" in alone.text
    only = verdict([majority(0.5)], Accuracy())
    assert only.winner is None
    assert "Only baselines" in only.text


def test_corpus_metrics_are_shown_in_their_unit() -> None:
    texts = ["the cat sat on the mat today"] * 60
    good = Bleu().statistics(texts, [[t] for t in texts], ())
    poor = Bleu().statistics(["the cat sat on a hat"] * 60, [[t] for t in texts], ())
    board = [Measured(name=n, statistics=(s,), binary=False) for n, s in [("a", good), ("b", poor)]]
    assert verdict(board, Bleu()).text.startswith("a wins with 100.0: a difference of ")


def test_worlds_without_a_difference_seldom_have_a_loser() -> None:
    tasks = 100
    losers = winners = 0
    for task in range(tasks):
        board = [noisy(f"t{k}", 0.8, 1000 * task + k, n=100) for k in range(6)]
        found = verdict(board, Accuracy(), seed=task)
        losers += len(found.tied_with) < 5
        winners += found.decided
    assert losers / tasks <= 0.09
    assert winners == 0


def test_every_number_is_finite_and_the_same_seed_gives_the_same_verdict() -> None:
    board = [technique("a", 1.0, 1.0), technique("b", 0.0), technique("c", 1.0)]
    found = verdict(board, Accuracy(), seed=3)
    numbers = [v for c in found.comparisons for v in c.values() if isinstance(v, float)]
    assert all(map(math.isfinite, numbers))
    assert found == verdict(board, Accuracy(), seed=3)


@pytest.mark.parametrize(
    ("improving", "words"),
    [
        ([], None),
        (["lora"], "lora was still improving when its budget ended; a larger one may raise it."),
        (["full"], "This is the order at this budget: full was still improving when it ended"),
        (["lora", "full"], "lora and full were still improving when it ended, and a larger budget"),
    ],
)
def test_what_more_budget_might_change_is_said(improving: list[str], words: str | None) -> None:
    board = [technique(name, *[a] * 3, kind="tuned") for name, a in (("lora", 0.9), ("full", 0.6))]
    text = verdict(board, Accuracy(), improving=improving).text
    assert words in text if words else "improving" not in text


def started(**said: bool | None) -> list[Start]:
    """Return starts held against zero_shot, by whether the dev loss fell."""
    return [Start(name, "zero_shot", fell) for name, fell in said.items()]


def test_techniques_that_are_no_better_than_their_start_learned_nothing() -> None:
    tuned = {"lora": 0.9, "full": 0.61, "prompt_tuning": 0.6, "grpo": 0.59}
    board = [majority(0.4), technique("zero_shot", 0.6)]
    board += [technique(name, *[a] * 3, kind="tuned") for name, a in tuned.items()]
    starts = started(lora=True, full=True, prompt_tuning=False, grpo=None)
    lines = verdict(board, Accuracy(), starts=starts).text.split("\n")
    assert lines[-3:] == [
        "Learned nothing, for the dev loss did not fall: prompt_tuning (0.600; zero_shot 0.600).",
        "Learned nothing that this test can show, though the dev loss fell: "
        "full (0.610; zero_shot 0.600).",
        "Learned nothing that this test can show: grpo (0.590; zero_shot 0.600).",
    ]


def test_one_seed_tells_what_that_seed_learned() -> None:
    board = [technique("zero_shot", 0.6), technique("lora", 0.9, kind="tuned")]
    assert "Learned nothing" not in verdict(board, Accuracy(), starts=started(lora=True)).text
    worse = [technique("zero_shot", 0.6), technique("lora", 0.5, kind="tuned")]
    assert (
        "lora (0.500; zero_shot 0.600)"
        in verdict(worse, Accuracy(), starts=started(lora=True)).text
    )


def test_without_a_start_only_a_loss_that_did_not_fall_says_so() -> None:
    board = [technique("lora", 0.9, 0.9, kind="tuned")]
    fell = verdict(board, Accuracy(), starts=[Start("lora", None, True)]).text
    stuck = verdict(board, Accuracy(), starts=[Start("lora", None, False)]).text
    assert "Learned nothing" not in fell
    assert stuck.endswith("Learned nothing, for the dev loss did not fall: lora (0.900).")


def test_few_rows_do_not_tell_that_nothing_was_learned() -> None:
    board = [technique("zero_shot", 0.6, n=20), technique("lora", *[0.6] * 3, kind="tuned", n=20)]
    assert "Learned nothing" not in verdict(board, Accuracy(), starts=started(lora=False)).text
