"""Which value of a swept number paid, said from paired comparisons; nothing is said of chance."""

from typing import Any

import numpy as np
import pytest

from savile.ladder.sweeps import sweeps_of
from savile.ladder.verdict import verdict
from savile.metrics.accuracy import Accuracy
from savile.spec.ladder import parse
from savile.stats import Measured
from tests.ladder.test_verdict import majority, technique


def sweeps(*items: Any) -> list[tuple[str, dict[float, str]]]:
    return [tuple(sweep) for sweep in sweeps_of(parse(list(items))[0])]


def said(*measured: Measured, ladder: Any) -> list[str]:
    text = verdict(
        [majority(0.1, len(measured[0].statistics[0])), *measured],
        Accuracy(),
        sweeps=sweeps_of(parse(ladder)[0]),
    ).text
    return [line for line in text.split("\n") if line.startswith("From ")]


def test_candidates_that_differ_in_one_number_are_a_sweep() -> None:
    assert sweeps("one_shot", {"few_shot": {"k": [16, 4]}}, "zero_shot") == [
        ("k", {1: "one_shot", 4: "few_shot(k=4)", 16: "few_shot(k=16)"})
    ]
    assert sweeps({"nearest+lora": {"k": [1, 2], "r": [2, 4]}}) == [
        (key, {v: f"nearest(k={k})+lora(r={r})" for v, k, r in of})
        for key, of in (
            ("k", ((1, 1, 2), (2, 2, 2))),
            ("r", ((2, 1, 2), (4, 1, 4))),
            ("k", ((1, 1, 4), (2, 2, 4))),
            ("r", ((2, 2, 2), (4, 2, 4))),
        )
    ]


@pytest.mark.parametrize(
    "items",
    [
        ["few_shot", "lora"],
        [{"few_shot": {"selection": ["random", "balanced"]}}],
        [{"few_shot": {"k": 1}}, {"few_shot": {"k": 2, "selection": "random"}}],
        [{"few_shot": {"k": 1}}, {"nearest": {"k": 2}}],
    ],
)
def test_what_differs_in_more_or_in_words_is_none(items: list[Any]) -> None:
    assert sweeps(*items) == []


LADDER = [{"nearest": {"k": [1, 4, 16]}}]


def test_each_value_is_held_against_the_last_that_paid() -> None:
    names = [f"nearest(k={k})" for k in (1, 4, 16)]
    scores = (0.3, 0.6, 0.61)
    (line,) = said(*(technique(n, s) for n, s in zip(names, scores, strict=True)), ladder=LADDER)
    assert line.startswith("From nearest(k=1): k = 4 paid (+0.300 over 1, 95 % interval 0.2")
    assert "; k = 16 did not pay (+0.010 over 4, 95 % interval -0.00" in line
    scores = (0.3, 0.2, 0.6)
    (line,) = said(*(technique(n, s) for n, s in zip(names, scores, strict=True)), ladder=LADDER)
    assert "4 did not pay (-0.100 over 1" in line
    assert "16 paid (+0.300 over 1" in line


def test_what_the_number_of_steps_leaves_open_may_have_paid() -> None:
    (alone,) = said(technique("nearest(k=1)", 0.3), technique("nearest(k=4)", 0.32), ladder=LADDER)
    assert "k = 4 paid (+0.020" in alone
    names = [f"nearest(k={k})" for k in range(1, 9)]
    many = [technique(n, 0.3 if n == names[0] else 0.32) for n in names]
    (line,) = said(*many, ladder=[{"nearest": {"k": list(range(1, 9))}}])
    assert "k = 2 may have paid (+0.020" in line
    assert " paid (" not in line.replace("may have paid", "")


def test_one_seed_of_chance_tells_nothing() -> None:
    one, four = (
        Measured(name=m.name, statistics=m.statistics, binary=True, stochastic=True)
        for m in (technique("few_shot(k=1)", 0.2), technique("few_shot(k=4)", 0.9))
    )
    (line,) = said(one, four, ladder=[{"few_shot": {"k": [1, 4]}}])
    assert line == "From few_shot(k=1): k = 4 is not told by one seed (+0.700 over 1)."


def test_too_few_rows_and_values_without_a_score_say_nothing() -> None:
    few = [technique(f"nearest(k={k})", s, n=20) for k, s in ((1, 0.1), (4, 0.9))]
    assert said(*few, ladder=LADDER) == []
    assert said(technique("nearest(k=1)", 0.5), ladder=LADDER) == []


def test_no_value_pays_where_all_are_alike() -> None:
    rng, claims, boards = np.random.default_rng(0), 0, 150
    for _ in range(boards):
        measured = [
            Measured(
                name=f"nearest(k={k})",
                statistics=(np.stack([rng.random(200) < 0.5, np.ones(200)], axis=1).astype(float),),
                binary=True,
            )
            for k in (1, 4, 16)
        ]
        claims += any(" paid (" in line for line in said(*measured, ladder=LADDER))
    assert claims <= 0.05 * boards + 5  # 5 % and two standard errors
