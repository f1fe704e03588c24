"""The last number of an answer, in the ways people write numbers."""

from decimal import Decimal

import pytest

from savile.metrics.numeric import Numeric, last_number


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("42", "42"),
        ("The answer is 42.", "42"),
        ("3 apples and 4 pears: 7", "7"),
        ("costs $1,042.50 in all", "1042.50"),
        ("-7", "-7"),
        ("it is \N{MINUS SIGN}7 degrees", "-7"),
        ("10-4", "4"),
        ("10 - 4", "-4"),
        ("1,234,567", "1234567"),
        ("1, 2, 3", "3"),
        ("1,23", "23"),
        ("12,345,67", "67"),
        (".5", "0.5"),
        ("-.5", "-0.5"),
        ("0.25", "0.25"),
        ("1e3", "1000"),
        ("50%", "50"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("He paid 10 - so #### 42 (after 3 tries)", "42"),
        ("#### 1,000", "1000"),
        ("version 1.2.3", "3"),
        ("x2", "2"),
    ],
)
def test_reads_the_last_number(text: str, expected: str) -> None:
    assert last_number(text) == Decimal(expected)


@pytest.mark.parametrize("text", ["", "none", "####", "-", "."])
def test_finds_no_number_where_there_is_none(text: str) -> None:
    assert last_number(text) is None


def test_numbers_are_equal_as_numbers() -> None:
    answers = ["so 42.0", "+42", "41", None, "forty-two"]
    assert Numeric().statistics(answers, [["#### 42"]] * 5, ())[:, 0].tolist() == [1, 1, 0, 0, 0]


def test_tolerance_is_relative() -> None:
    assert Numeric(tolerance=0.01).score(["101", "102"], [["100"], ["100"]], ()) == 0.5


def test_a_reference_without_a_number_is_compared_as_text() -> None:
    assert Numeric().score([" none ", "3"], [["none"], ["none"]], ()) == 0.5
