"""Replays of the race: matrices are read as they were written, and what is counted adds up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench import kept, race_table, racing, score_matrix
from bench.table import newest
from savile.ladder.race import Race

CASE = score_matrix.read(newest(kept.RESULTS)["score-matrix-easy_routing"])
CHOSEN = [CASE[name] for name in ("zero_shot", "one_shot", "lora", "ia3", "dora", "prompt_tuning")]


@pytest.mark.parametrize(
    "rows", [np.array([0.0, 0.0, 1.0, 0.0, 1.0]), np.ones(3), np.zeros(9), np.array([0.25, 1.0])]
)
def test_rows_are_read_as_they_were_written(rows: racing.Array) -> None:
    assert score_matrix.unpacked(score_matrix.packed(rows)).tolist() == rows.tolist()


def test_right_and_wrong_take_a_digit_for_four_rows() -> None:
    assert score_matrix.packed(np.array([0.0, 1.0, 1.0, 1.0, 1.0])) == "5:f"


def test_a_race_that_stops_nobody_costs_what_the_uniform_allocation_does() -> None:
    drawn = racing.draw(CHOSEN, np.random.default_rng(0))
    done = [replace(racing.begun(one), whole=tuple(one.whole)) for one in drawn]
    found = racing.held_against(done, drawn, Race(margin=0.05), racing.tied(CHOSEN))
    assert found == racing.Replay(1.0, 1.0, True, 0.0, 0, 0)


def test_what_is_stopped_is_saved_and_counted() -> None:
    drawn = racing.draw(CHOSEN, np.random.default_rng(1))
    race = Race(margin=0.2)
    runners = racing.raced(drawn, race)
    found = racing.held_against(runners, drawn, race, racing.tied(CHOSEN))
    assert {r.name for r in runners if not r.done} == {"zero_shot", "ia3", "dora"}
    assert (found.stopped, found.wrong, found.kept) == (3, 0, True)
    spent = {one.scored.name: one.scored.search_tokens for one in drawn}
    whole = {one.scored.name: sum(one.tokens) for one in drawn}
    all_ = sum(spent.values()) + sum(whole.values())
    assert found.tokens == pytest.approx(1 - (whole["ia3"] + whole["dora"]) / all_)


def test_the_tables_say_what_the_records_do() -> None:
    records = newest(kept.RESULTS).get("racing", [])
    replays = [r for r in records if r["kind"] == "replays"]
    assert len(race_table.replays(records).splitlines()) == len(replays) + 2
    assert len({(r["task"], r["ladder"], r["margin"]) for r in replays}) == len(replays) > 0
    assert all(r["replays"] >= 50 for r in replays)
