"""The second table: what was measured beside the score."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from savile.report import beside, html, reading, terminal
from tests.report.sample import document


def with_values() -> dict[str, Any]:
    found = document()
    found["board"][0]["compared"] = {
        "rouge_l": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 400.0},
        "win_rate": {"value": 0.625, "low": 0.5, "high": 0.75, "n": 400.0},
        "of_teacher_latency": {"value": 0.25},
    }
    found["board"][1]["compared"] = {"kl": {"value": 12.345, "low": 11.0, "high": 13.0}}
    return found


def printed(found: dict[str, Any], width: int = 160) -> str:
    stream = io.StringIO()
    terminal.render(found, Console(file=stream, width=width, no_color=True))
    return stream.getvalue()


def test_the_terminal_shows_a_second_table_of_the_rows_that_carry_values() -> None:
    text = printed(with_values())
    second = text.split("beside the score", 1)[1]
    assert "rouge_l" in second
    assert "0.500 [0.400, 0.600]" in second
    assert "62\N{NARROW NO-BREAK SPACE}% [50" in second
    assert "0.25×" in second
    assert "12.3 [11.0, 13.0]" in second
    assert "zero_shot" not in second.split("* the highest", 1)[0]


def test_no_second_table_without_values() -> None:
    assert "beside the score" not in printed(document())
    assert "Beside the score" not in html.render(document())


def test_the_second_table_drops_columns_from_the_right_when_it_is_narrow() -> None:
    second = printed(with_values(), width=60).split("beside the score", 1)[1]
    assert "rouge_l" in second
    assert "KL" not in second


def test_the_page_shows_the_table_and_what_its_columns_mean() -> None:
    page = html.render(with_values())
    assert "Beside the score" in page
    assert "0.500 [0.400, 0.600]" in page
    assert "nats an answer" in page


def test_values_that_are_no_numbers_are_left_out() -> None:
    found = document()
    found["board"][0]["compared"] = {"kl": {"value": "far"}, "<b>": {"value": 1.0}, "x": 3}
    board = reading.read(found)
    assert [one.key for one in beside.columns(board)] == ["<b>"]
    assert "<b>" not in html.render(found).split("Beside the score")[1].split("<th")[2]
