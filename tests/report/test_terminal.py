"""The board in terminals wide and narrow, with and without color, and with hostile text in it."""

import io
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from savile.report import terminal
from tests.report.sample import IMPROVING, document


def printed(
    found: dict[str, Any], width: int = 100, encoding: str = "utf-8", **options: Any
) -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    terminal.render(found, Console(file=stream, width=width, **options))
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = printed(document(), width).splitlines()
    assert max(map(cell_len, lines)) <= width


def test_at_100_columns_score_interval_labels_and_times_are_seen() -> None:
    shown = printed(document())
    for part in ("0.907 [0.873, 0.935]", "●", "1,400", "6.9 min", "21 ms"):
        assert part in shown


def test_narrow_terminals_lose_the_least_important_columns_first() -> None:
    widest, narrow = printed(document(), 200), printed(document(), 60)
    assert "artifact" in widest
    assert "artifact" not in printed(document(), 120)
    assert "[0.873, 0.935]" in narrow
    assert "21 ms" not in narrow


def test_rows_rank_by_score_then_come_those_without_one_then_the_verdict() -> None:
    shown = printed(document())
    order = [
        "lora(r=8)",
        "majority",
        "chain_of_thought not run:",
        "bottleneck diverged:",
        "No single",
    ]
    places = [shown.index(part) for part in order]
    assert places == sorted(places)
    assert shown.index("No single winner") < shown.index("Intervals and p-values speak about")


def test_what_is_to_know_about_a_score_stands_below_the_table() -> None:
    shown = " ".join(printed(document(), 200).split())
    assert f"p_tuning, prompt_tuning(tokens=20): {IMPROVING}" in shown


def test_nothing_but_text_goes_into_a_pipe() -> None:
    assert "\x1b" not in printed(document())


def test_no_color_is_honored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in printed(document(), force_terminal=True)


def test_an_ascii_terminal_gets_ascii() -> None:
    shown = printed(document(), encoding="ascii")
    assert "0.907 [0.873, 0.935]" in shown
    assert "o" in shown


def test_hostile_text_is_shown_as_text() -> None:
    found = document()
    found["task"] = "[red]\x1b]0;owned\x07"
    found["board"][0]["technique"] = "\x1b[2J[bold]x[/bold]\u202e"
    found["board"][-1]["reason"] = "[link=http://evil]\x9b31m"
    found["verdict"]["text"] = "[/]\x1b[31mwon"
    shown = printed(found, 200, force_terminal=True, color_system=None)
    for part in (
        r"[red]\x1b]0;owned\x07",
        r"\x1b[2J[bold]x[/bold]\u202e",
        r"\x9b31m",
        r"\x1b[31mwon",
    ):
        assert part in shown
    assert "\x07" not in shown
    assert "\x9b" not in shown


@pytest.mark.parametrize("found", [{}, {"board": [{}], "verdict": {}}, {"board": [{"score": 0.5}]}])
def test_documents_that_lack_things_are_printed(found: dict[str, Any]) -> None:
    assert "No verdict was written." in printed(found)


def test_every_field_of_a_row_may_be_none() -> None:
    for name in document()["board"][0]:
        found = document()
        for row in found["board"]:
            row[name] = None
        assert "No single winner" in printed(found, 200)


@pytest.mark.parametrize(
    ("low", "score", "high", "expected"),
    [(0, 0.5, 1, "──●──"), (0.25, 0.25, 0.5, " ●─  "), (-1, 2, 3, "────●")],
)
def test_a_whisker_is_an_interval(low: float, score: float, high: float, expected: str) -> None:
    assert terminal.whisker(low, score, high, width=5) == expected
