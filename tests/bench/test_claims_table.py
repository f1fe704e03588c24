"""A claim is held against the best rows of each side, by whether their intervals meet."""

from __future__ import annotations

from typing import Any

import pytest

from bench import claims_table


def row(name: str, score: float, half: float) -> dict[str, Any]:
    return {
        "kind": "row",
        "technique": name,
        "score": score,
        "low": score - half,
        "high": score + half,
    }


@pytest.mark.parametrize(
    ("left", "right", "same", "said"),
    [
        ((0.5, 0.1), (0.8, 0.1), False, "yes, beyond the intervals"),
        ((0.5, 0.2), (0.8, 0.2), False, "same direction, within the intervals"),
        ((0.8, 0.1), (0.5, 0.1), False, "**no**: the other way, beyond the intervals"),
        ((0.6, 0.1), (0.5, 0.1), False, "not seen: within the intervals"),
        ((0.6, 0.1), (0.5, 0.1), True, "not shown to differ"),
        ((0.9, 0.1), (0.5, 0.1), True, "no, beyond the intervals"),
    ],
)
def test_a_claim_is_judged_by_intervals(
    left: tuple[float, float], right: tuple[float, float], same: bool, said: str
) -> None:
    assert claims_table.judged(row("a", *left), row("b", *right), same=same) == said


def test_the_best_row_of_each_side_stands_for_it_and_missing_sides_are_left_out() -> None:
    found = [row("zero_shot", 0.2, 0.05), row("few_shot(k=8)", 0.6, 0.05), {"kind": "about"}]
    table = claims_table.claims({"board-hard_routing": found})
    assert table.count("\n") == 3
    assert "few_shot(k=8) 0.600 [0.550, 0.650] | yes, beyond the intervals" in table
    assert claims_table.best(found[:2], ("zero_shot", "few_shot(k=8)")) == found[1]
