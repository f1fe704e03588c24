"""A row says what its searches took, from how many, and the corrected gain."""

from dataclasses import asdict

from savile.ladder import searched
from savile.prompts.base import Frame
from savile.prompts.base_searched import Searched, Tried

TRIED = tuple(Tried(name=name, rows=8, score=0.5, given=0.4) for name in ("given", "plain"))
FOUND = Searched(won="plain", tried=TRIED, rows=8, scored=16, gain=0.1, low=-0.02, high=0.22)


def test_a_trial_keeps_the_search_and_a_row_shows_it() -> None:
    result = searched.record(Frame(searched=FOUND))
    assert result == {"searched": asdict(FOUND)}
    assert searched.settings([result, result]) == {
        "searched": {"won": ["plain"] * 2, "candidates": 2, "rows": [8] * 2, "scored": [16] * 2}
    }
    (line,) = searched.notes([result, result])
    assert line.startswith("searched, seed 0, 1: 'plain' of 2 prompts, +0.100 [-0.020, +0.220]")


def test_other_rows_say_nothing() -> None:
    assert searched.record(Frame()) == {}
    assert searched.settings([{"status": "ok"}]) == {}
    assert searched.notes([{"status": "ok"}]) == []
