"""Pairs from scored answers: never of equal score, the greatest differences first, all counted."""

import random
from itertools import pairwise

import pytest

from savile.data.pairing import EMPTY, EQUAL, FEW, PAIRED, REPEATED, USED, Built, Question, Scored
from savile.data.pairing import pair_up as pair_up_all
from savile.errors import DataError


def question(scores: dict[str, float], asked: str = "why") -> Question:
    answers = [Scored(text, score, {"sample": n}) for n, (text, score) in enumerate(scores.items())]
    return Question(asked, answers, {"row": asked})


def pair_up(*questions: Question, per_question: int = 1) -> Built:
    return pair_up_all(questions, per_question=per_question, origin={"technique": "zero_shot"})


def told(built: Built) -> list[tuple[str, str]]:
    return [(pair["chosen"], pair["rejected"]) for pair in built.pairs]


def test_the_best_is_chosen_against_the_worst() -> None:
    built = pair_up(question({"a": 0.5, "b": 1.0, "c": 0.0, "d": 0.5}))
    assert built.pairs == (
        {
            "prompt": "why",
            "chosen": "b",
            "rejected": "c",
            "chosen_score": 1.0,
            "rejected_score": 0.0,
            "chosen_sample": 1,
            "rejected_sample": 2,
            "row": "why",
            "technique": "zero_shot",
        },
    )
    assert (built.questions, built.answers) == ({PAIRED: 1}, {USED: 4})


def test_more_pairs_come_by_falling_difference_and_none_has_equal_scores() -> None:
    rng = random.Random(0)
    for _ in range(50):
        scores = {str(n): rng.randrange(4) / 3 for n in range(6)}
        if len(set(scores.values())) == 1:
            continue
        built = pair_up(question(scores), per_question=100)
        gaps = [pair["chosen_score"] - pair["rejected_score"] for pair in built.pairs]
        assert min(gaps) > 0.3
        assert all(a >= b for a, b in pairwise(gaps))
        wanted = sum(a > b for a in scores.values() for b in scores.values())
        assert len(built.pairs) == len(set(told(built))) == wanted
        some = pair_up(question(scores), per_question=2)
        assert some.pairs == built.pairs[:2]


def test_scores_that_differ_by_rounding_alone_are_equal() -> None:
    built = pair_up(question({"a": 0.1 + 0.2, "b": 0.3, "c": 0.2}), per_question=9)
    assert told(built) == [("a", "c"), ("b", "c")]


def test_every_question_and_every_answer_is_counted() -> None:
    repeated = Question("twice", [Scored("x", 1.0, {}), Scored("x", 0.0, {}), Scored(" ", 0.5, {})])
    built = pair_up(
        question({"a": 1.0, "b": 0.0}, "paired"),
        question({"a": 0.5, "b": 0.5, "c": 0.5}, "same"),
        question({"a": 1.0}, "one"),
        repeated,
        Question("none", []),
    )
    assert built.questions == {PAIRED: 1, EQUAL: 2, FEW: 2}
    assert built.answers == {USED: 2 + 3 + 1 + 1, REPEATED: 1, EMPTY: 1}
    assert "2 questions: all answers scored the same" in built.lines()
    assert "1 answers: repeated another" in built.lines()
    assert built.summary()["pairs"] == 1


def test_an_answer_that_is_scored_twice_has_the_mean() -> None:
    answers = [Scored("a", 5.0, {}), Scored("b", 3.0, {}), Scored("a", 2.0, {})]
    (pair,) = pair_up(Question("why", answers)).pairs
    assert (pair["chosen_score"], pair["rejected_score"]) == (3.5, 3.0)


def test_a_pair_that_two_rows_give_is_one() -> None:
    same = question({"a": 1.0, "b": 0.0})
    assert len(pair_up(same, same).pairs) == 1


def test_the_summary_says_whether_the_longer_answer_wins() -> None:
    built = pair_up(
        question({"long": 1.0, "b": 0.0}, "x"),
        question({"c": 1.0, "longer": 0.5}, "y"),
    )
    found = built.summary()
    assert (found["chosen_longer"], found["chosen_score"], found["rejected_score"]) == (
        0.5,
        1,
        0.25,
    )


def test_without_a_pair_the_reasons_are_said() -> None:
    with pytest.raises(DataError, match=r"no preference pair .*2 questions: all answers scored"):
        pair_up(question({"a": 1.0, "b": 1.0}), question({"a": 0.0, "b": 0.0}))
    with pytest.raises(DataError, match="there is no question"):
        pair_up()
