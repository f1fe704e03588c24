"""Numbers for people, harmless text, and documents that lack things."""

import pytest
from rich.cells import cell_len

from savile.report import reading
from tests.report.sample import IMPROVING, document


@pytest.mark.parametrize(
    ("show", "value", "expected"),
    [
        (reading.seconds, None, "–"),
        (reading.seconds, 0, "0 ms"),
        (reading.seconds, 0.0004, "0.4 ms"),
        (reading.seconds, 0.021, "21 ms"),
        (reading.seconds, 0.9999, "1.0 s"),
        (reading.seconds, 412, "6.9 min"),
        (reading.seconds, 7200, "2.0 h"),
        (reading.size, None, "–"),
        (reading.size, 0, "0"),
        (reading.size, 786_432, "786 kB"),
        (reading.size, 999_999, "1 MB"),
        (reading.size, 3e12, "3 TB"),
        (reading.count, 1400, "1,400"),
        (reading.count, 196_608, "197k"),
        (reading.count, 9_412_864, "9.41M"),
        (reading.share, 0.0209, "2.1 %"),
        (reading.share, 1.0, "100 %"),
        (reading.usd, 0.0, "$0.00"),
        (reading.usd, 0.0021, "$0.0021"),
        (reading.usd, 12.3, "$12.30"),
        (reading.usd, 1200, "$1,200"),
        (reading.score, 0.9, "0.900"),
        (reading.score, None, "–"),
    ],
)
def test_numbers_are_short_and_have_units(show: object, value: float | None, expected: str) -> None:
    assert callable(show)
    assert show(value) == expected


@pytest.mark.parametrize("value", [None, True, "3", float("nan"), float("inf"), [1], 10**400])
def test_only_finite_numbers_are_numbers(value: object) -> None:
    assert reading.number(value) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("a\tb", "a b"),
        ("\x85\u2028", r"\x85\u2028"),
        ("é 中 👩\u200d💻", "é 中 👩\u200d💻"),
        ("\ud800", r"\ud800"),
    ],
)
def test_characters_that_steer_a_screen_are_shown_not_sent(text: str, expected: str) -> None:
    assert reading.clean(text) == expected
    assert cell_len(reading.clean(text)) >= 1


def test_a_line_has_no_breaks() -> None:
    assert reading.line("a\nb\r\nc") == r"a b\r c"


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"board": None, "verdict": None, "data": None, "metric": None},
        {"board": [{}, None, 3, {"technique": None, "score": "x"}], "verdict": {"text": None}},
        {"board": "no list", "verdict": {"winner": 3, "tied_with": "x"}},
    ],
)
def test_a_document_of_nothing_is_read(document: dict[str, object]) -> None:
    board = reading.read(document)
    assert board.rows == ()
    assert board.verdict_lines == ["No verdict was written."]
    assert "–" in board.subtitle


def test_scores_rank_and_rows_without_one_stand_apart() -> None:
    rows = [
        {"technique": "a", "status": "ok", "score": 0.1},
        {"technique": "b", "status": "failed", "reason": "boom"},
        {"technique": "c", "status": "ok", "score": 0.9},
    ]
    board = reading.read({"board": rows})
    assert [row.name for row in board.rows] == ["c", "a"]
    assert [row.name for row in board.others] == ["b"]


def test_a_second_opening_of_the_test_set_is_said() -> None:
    assert "used 2 times" in reading.read({"test_openings": 2}).limits[0]
    assert len(reading.read({"test_openings": 1}).limits) == 1


def test_rows_with_the_same_note_share_a_line() -> None:
    assert reading.read(document()).notes == [f"p_tuning, prompt_tuning(tokens=20): {IMPROVING}"]
