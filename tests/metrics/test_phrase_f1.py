"""Phrase F1: what ends a phrase, what a wrong phrase costs, and that length buys nothing."""

import pytest

from savile.metrics.phrase_f1 import PhraseF1, phrase_f1, phrases

REPLY = "Dear Ann, we got your order 10:30. It will be 3.5 kg! Yours, Savile"
"""Five phrases."""


def test_phrases_end_at_marks_before_white_space_and_at_line_ends() -> None:
    assert phrases(REPLY) == [
        "Dear Ann",
        "we got your order 10:30",
        "It will be 3.5 kg",
        "Yours",
        "Savile",
    ]
    assert phrases("one\ntwo\r\nthree") == ["one", "two", "three"]
    assert phrases("a , b . c !") == ["a", "b", "c"]
    assert phrases("您好，我们收到了。谢谢！") == ["您好", "我们收到了", "谢谢"]
    assert phrases(" . ,\n") == []


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (REPLY, 1.0),
        ("Dear  Ann ,\nwe got your order 10:30 . It will be 3.5 kg\nYours\nSavile", 1.0),
        (REPLY.replace("Ann", "Bob"), 8 / 10),
        (REPLY.removesuffix("Yours, Savile"), 6 / 8),
        (REPLY.replace("3.5", "35"), 8 / 10),
        (f"{REPLY}. Have a nice day.", 10 / 11),
        (f"{REPLY}. {REPLY}", 10 / 15),
        ("Savile, Yours, Dear Ann", 6 / 8),
        ("Ann Dear", 0.0),
        ("", 0.0),
        (None, 0.0),
    ],
)
def test_share_of_right_phrases(answer: str | None, expected: float) -> None:
    assert PhraseF1().score([answer], [[REPLY]], ()) == pytest.approx(expected)


def test_the_best_reference_counts() -> None:
    assert PhraseF1().score(["b, c"], [["a, b", "b, c, d"]], ()) == pytest.approx(4 / 5)


def test_case_counts_unless_told_otherwise() -> None:
    assert PhraseF1().score(["DEAR ANN, hi"], [["Dear Ann, hi"]], ()) == pytest.approx(0.5)
    assert PhraseF1(ignore_case=True).score(["DEAR ANN, hi"], [["Dear Ann, hi"]], ()) == 1.0


def test_texts_without_phrases_agree() -> None:
    assert phrase_f1(" . ", "") == 1.0
    assert phrase_f1("", "a") == 0.0
