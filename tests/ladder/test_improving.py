"""A curve on dev that still moved at its end is told from one that had converged."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from savile.ladder.folder import Unit
from savile.ladder.improving import still_improving
from savile.types import Prediction

Points = Sequence[tuple[float, float | None]]
N_DEV = 200


def history(points: Points, **more: Any) -> list[dict[str, Any]]:
    return [
        {"step": 10 * n, "dev_score": score, "dev_loss": loss, **more}
        for n, (score, loss) in enumerate(points, 1)
    ]


def unit(looks: Sequence[dict[str, Any]]) -> Unit:
    answers = tuple(Prediction(id=str(i), text="", answer=None) for i in range(N_DEV))
    return Unit(path=Path("unit"), result={"history": list(looks)}, predictions=answers)


@pytest.mark.parametrize(
    ("points", "said"),
    [
        # lora on Banking77, then full there: far from converged
        (
            [(0.03, 3.38), (0.05, 2.1), (0.07, 1.64), (0.09, 1.47)],
            "dev loss 1.64 -> 1.47 over its last 25 %",
        ),
        (
            [(0.1, 0.97), (0.3, 0.2), (0.4, 0.14), (0.6, 0.1)],
            "dev loss 0.14 -> 0.10 over its last 25 %",
        ),
        # lora and full on hard routing: as good as done
        ([(0.96, 0.11), (0.97, 0.05), (0.99, 0.009), (0.99, 0.003)], None),
        ([(0.97, 0.06), (0.97, 0.03), (0.99, 0.03), (0.99, 0.032)], None),
        # a slow crawl, of 1 %
        ([(0.0, 5.7), (0.0, 5.39), (0.02, 5.26), (0.02, 5.2)], None),
        # down from a spike, but not below what was there before it
        ([(0.3, 0.58), (0.3, 1.72), (0.4, 1.26)], None),
        # the loss falls and the answers get worse
        ([(0.9, 1.5), (0.8, 1.0)], None),
        # nothing can be gained
        ([(0.9, 1.5), (1.0, 1.0)], None),
        # one look is no curve
        ([(0.3, 1.5)], None),
        # without a loss the score speaks, beyond two standard errors (0.07 here)
        ([(0.4, None), (0.5, None), (0.55, None)], None),
        ([(0.4, None), (0.5, None), (0.6, None)], "dev score 0.500 -> 0.600 over its last 33 %"),
    ],
)
def test_only_a_curve_that_still_moved_is_improving(points: Points, said: str | None) -> None:
    assert still_improving([unit(history(points))]) == said


def test_seeds_are_averaged() -> None:
    falling, flat = [(0.3, 1.5), (0.3, 1.3)], [(0.3, 1.5), (0.3, 1.6)]
    assert (
        still_improving([unit(history(falling))] * 2) == "dev loss 1.50 -> 1.30 over its last 50 %"
    )
    assert still_improving([unit(history(falling)), unit(history(flat))]) is None


def test_only_the_last_objective_of_a_chain_and_no_rollback_counts() -> None:
    before = history([(0.1, 9.0), (0.2, 5.0)], objective="sft")
    rollback = {"step": 15, "event": "rollback", "slowdown": 0.5, "objective": "dpo"}
    after = history([(0.3, 0.69), (0.3, 0.68)], objective="dpo")
    assert still_improving([unit([*before, after[0], rollback, after[1]])]) is None
    assert still_improving([unit(before)]) is not None


def test_copies_are_averaged_and_the_merged_look_is_no_part_of_their_curve() -> None:
    falling, flat = [(0.3, 1.5), (0.3, 1.3)], [(0.3, 1.5), (0.3, 1.6)]
    merged = {"step": 40, "event": "merged", "dev_score": 0.9, "dev_loss": 0.1}
    both = [*history(falling, copy=0), *history(falling, copy=1), merged]
    assert still_improving([unit(both)]) == "dev loss 1.50 -> 1.30 over its last 50 %"
    one = [*history(falling, copy=0), *history(flat, copy=1), merged]
    assert still_improving([unit(one)]) is None


def test_a_prompt_has_no_curve() -> None:
    assert still_improving([Unit(path=Path("unit"), result={"status": "ok"})]) is None


def test_scores_up_to_100_have_their_own_scale() -> None:
    points: Points = [(40.0, None), (60.0, None)]
    assert still_improving([unit(history(points))], top=100.0) is not None
    assert still_improving([unit(history([(40.0, None), (45.0, None)]))], top=100.0) is None
