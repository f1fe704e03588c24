"""The few wrong answers of a row, and what is said where answers cannot be read."""

import pytest

from savile.ladder.mistakes import SHOWN, mistakes, unread
from savile.metrics.accuracy import Accuracy
from savile.types import Example, Prediction


def row(number: int, answer: str | None) -> Prediction:
    return Prediction(id=str(number), text=answer or f"text {number}", answer=answer)


def shown(answers: list[str | None]) -> list[str]:
    test = [Example(id=str(n), input=f"row {n}", output="yes") for n in range(len(answers))]
    found = [row(n, answer) for n, answer in enumerate(answers)]
    statistics = Accuracy().statistics(answers, [e.accepted for e in test], ("yes", "no"))
    return [one["got"] for one in mistakes(Accuracy(), test, found, statistics)]


def test_one_unread_text_is_among_those_that_are_shown() -> None:
    assert shown([*["no"] * 9, None, None]) == [*["no"] * (SHOWN - 1), "(no answer in it) text 9"]
    assert shown([None, *["no"] * 9]) == ["(no answer in it) text 0", *["no"] * (SHOWN - 1)]
    assert shown(["no", None]) == ["no", "(no answer in it) text 1"]
    assert shown(["yes"] * 3) == []


@pytest.mark.parametrize(
    ("answers", "share"), [(["a", None], "50.0 %"), ([None] * 3, "100.0 %"), (["a", "b"], None)]
)
def test_the_share_of_unread_answers_is_said(answers: list[str | None], share: str | None) -> None:
    said = unread([[row(n, answer) for n, answer in enumerate(answers)]])
    assert said == (
        None
        if share is None
        else f"no answer could be read in {share} of its texts, which count as wrong"
    )
