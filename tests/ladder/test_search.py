"""Where a search goes from what its pieces came to, and how often that ends near the best rate."""

import math
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from savile.ladder.plan import Cell, tuned_cell
from savile.ladder.search import STEP, Found, Ranking, search

CELL = tuned_cell("lora", 1, 2_000, 0.01, 3)
RANKING = Ranking(n_dev=100)
Told = tuple[str, float | None, float | None]
"""Status, dev score and dev loss of a piece."""


class Landscape:
    """Pieces by learning rate, whose loss starts at 5; remembers what was tried."""

    def __init__(self, pieces: Mapping[float, Told], start: float | None = 5.0) -> None:
        self.pieces, self.start = pieces, start
        self.tried: list[float] = []

    def __call__(self, piece: int, rate: float) -> Mapping[str, Any]:
        assert piece == len(self.tried)
        self.tried.append(rate)
        status, score, loss = self.pieces.get(rate, ("ok", 0.0, 4.9))
        told = {"status": status, "dev_score": score, "dev_loss": loss}
        return {**told, "start_loss": self.start, "learning_rate": rate}


def chosen(land: Landscape, ranking: Ranking = RANKING, cell: Cell = CELL) -> float | None:
    return search(cell, land, ranking).learning_rate


def test_a_good_start_is_tried_with_its_two_neighbors_and_that_is_all() -> None:
    land = Landscape({0.01: ("ok", 0.8, 1.0), 0.04: ("ok", 0.7, 1.0), 0.0025: ("ok", 0.5, 1.0)})
    assert chosen(land) == 0.01
    assert land.tried == [0.01, 0.04, 0.0025]


def test_a_better_rate_is_followed_without_a_look_back() -> None:
    land = Landscape({0.01: ("ok", 0.4, 3.0), 0.04: ("ok", 0.7, 2.0), 0.16: ("ok", 0.9, 1.0)})
    assert chosen(land) == 0.16
    assert land.tried == [0.01, 0.04, 0.16, 0.64]
    land = Landscape({0.01: ("ok", 0.4, 3.0), 0.04: ("ok", 0.7, 1.0), 0.16: ("ok", 0.2, 4.0)})
    assert chosen(land) == 0.04
    assert land.tried == [0.01, 0.04, 0.16]
    land = Landscape({0.01: ("ok", 0.4, 3.0), 0.04: ("ok", 0.1, 4.0), 0.0025: ("ok", 0.8, 1.0)})
    assert chosen(land) == 0.0025
    assert land.tried == [0.01, 0.04, 0.0025, 0.000625]


def test_a_better_rate_that_answers_like_a_constant_is_left_by_a_longer_step() -> None:
    ranking = Ranking(n_dev=100, constant=0.25)
    land = Landscape({0.01: ("ok", 0.27, 3.0), 0.04: ("ok", 0.3, 2.0), 0.64: ("ok", 0.9, 1.0)})
    assert chosen(land, ranking) == 0.64
    assert land.tried == [0.01, 0.04, 0.64, 2.56]
    land = Landscape({0.01: ("ok", 0.27, 3.0), 0.0025: ("ok", 0.3, 2.0)})
    assert chosen(land, ranking) == 0.0025
    assert land.tried == [0.01, 0.04, 0.0025, 0.000156]


@pytest.mark.parametrize("told", [("diverged", None, None), ("ok", 0.3, 6.0)])
def test_a_rate_too_high_to_learn_is_left_downward(told: Told) -> None:
    land = Landscape({0.01: told, 0.000156: ("ok", 0.9, 1.0)})
    assert chosen(land) == 0.000156
    assert land.tried == [0.01, 0.000156, 0.000624, 0.000039]


def test_a_rate_too_low_to_learn_is_left_upward_and_a_bracket_is_halved() -> None:
    land = Landscape({0.01: ("ok", 0.0, 4.995), 0.16: ("ok", 0.9, 1.0)})
    assert chosen(land) == 0.16
    assert land.tried == [0.01, 0.16, 0.64, 0.04]
    land = Landscape({0.01: ("ok", 0.0, 4.995), 0.16: ("diverged", None, None)})
    assert chosen(land) == 0.04
    assert land.tried[:3] == [0.01, 0.16, 0.04]


def test_three_neighbors_that_answer_like_a_constant_may_all_be_too_high() -> None:
    ranking = Ranking(n_dev=100, constant=0.25)
    land = Landscape({0.01: ("ok", 0.3, 4.0), 0.000156: ("ok", 0.9, 1.0)})
    assert chosen(land, ranking) == 0.000156
    assert land.tried == [0.01, 0.04, 0.0025, 0.000156]
    cell = tuned_cell("lora", 1, 20_000, 0.01, 6)
    land = Landscape({0.01: ("ok", 0.3, 4.0)})
    assert chosen(land, ranking, cell) == 0.01
    assert land.tried == [0.01, 0.04, 0.0025, 0.000156, 0.02, 0.005]


def test_the_direction_is_kept_until_something_is_learned() -> None:
    land = Landscape(dict.fromkeys((0.01, 0.000156, 0.00000975), ("diverged", None, None)))
    assert chosen(land) == 0.000000609
    assert land.tried == [0.01, 0.000156, 0.00000975, 0.000000609]


def test_more_tries_refine_around_the_best() -> None:
    cell = tuned_cell("lora", 1, 20_000, 0.01, 7)
    land = Landscape({0.01: ("ok", 0.8, 1.0), 0.02: ("ok", 0.8, 0.9)})
    assert chosen(land, cell=cell) == 0.02
    assert land.tried == [0.01, 0.04, 0.0025, 0.02, 0.0283, 0.0141]


def test_two_rates_are_two_tries() -> None:
    land = Landscape({0.01: ("ok", 0.2, 3.0), 0.04: ("ok", 0.8, 1.0)})
    assert chosen(land, cell=tuned_cell("lora", 1, 2_000, 0.01, 2)) == 0.04
    assert land.tried == [0.01, 0.04]


def test_equal_scores_are_told_apart_by_the_loss() -> None:
    land = Landscape({0.01: ("ok", 0.0, 1.0), 0.04: ("ok", 0.0, 2.0), 0.0025: ("ok", 0.0, 3.0)})
    assert chosen(land) == 0.01


def test_a_rate_that_diverged_never_wins() -> None:
    diverged = {0.04: ("diverged", 0.9, None), 0.16: ("diverged", 1.0, 0.0)}
    assert chosen(Landscape({0.01: ("ok", 0.1, 1.0), **diverged})) == 0.01


def test_a_higher_score_does_not_win_for_what_learned_nothing() -> None:
    land = Landscape({0.01: ("ok", 0.4, 5.2), 0.000156: ("ok", 0.2, 1.0)})
    assert chosen(land) == 0.000156


def test_what_fails_for_another_reason_is_tried_once() -> None:
    land = Landscape({0.01: ("failed", None, None)})
    found = search(CELL, land, RANKING)
    assert found == Found(learning_rate=None, results=found.results)
    assert land.tried == [0.01]


def test_a_given_rate_is_not_searched() -> None:
    land = Landscape({})
    assert chosen(land, cell=tuned_cell("lora", 1, 2_000, 0.3, 1)) == 0.3
    assert land.tried == []


def test_without_a_loss_the_score_alone_leads() -> None:
    land = Landscape({0.01: ("ok", 0.3, None), 0.04: ("ok", 0.6, None)}, start=None)
    assert chosen(land) == 0.04
    assert land.tried == [0.01, 0.04, 0.16]


def pieces(scores: Mapping[float, tuple[float, float]]) -> list[dict[str, Any]]:
    return [
        {"status": "ok", "dev_score": s, "dev_loss": x, "start_loss": 5.0, "learning_rate": r}
        for r, (s, x) in scores.items()
    ]


def best_rate(scores: Mapping[float, tuple[float, float]], ranking: Ranking) -> float | None:
    best = ranking.best(pieces(scores))
    return None if best is None else best["learning_rate"]


def test_scores_within_one_standard_error_are_told_apart_by_the_loss() -> None:
    scores = {0.01: (0.50, 2.0), 0.04: (0.47, 1.0), 0.0025: (0.30, 0.5)}
    assert best_rate(scores, Ranking(n_dev=100)) == 0.04
    assert best_rate(scores, Ranking(n_dev=10_000)) == 0.01
    assert best_rate(scores, Ranking(n_dev=4)) == 0.0025


def test_scores_that_a_constant_answer_may_get_are_equal() -> None:
    scores = {0.01: (0.33, 2.0), 0.04: (0.25, 1.0)}
    assert best_rate(scores, Ranking(n_dev=100)) == 0.01
    assert best_rate(scores, Ranking(n_dev=100, constant=0.26)) == 0.04


def test_a_loss_that_is_as_good_leaves_the_rate_that_was_tried_first() -> None:
    close = {0.01: (1.0, 0.001), 0.04: (1.0, 0.0), 0.0025: (1.0, 0.3)}
    assert best_rate(close, RANKING) == 0.01
    assert best_rate({0.01: (1.0, 0.1), 0.04: (1.0, 0.0)}, RANKING) == 0.04


# ── how often the search ends near the best rate ─────────────────────────────────────────────────

Curve = Callable[[float], float | None]
"""Dev loss of a piece by log4 of rate / lowest of the best rates; None where it diverges."""
START = 4.0
BEST = 0.8
"""How far the best rates reach, in the same unit."""


def falling(x: float) -> float:
    """Below the best rates what is learned grows with the rate, to a loss of 0.4."""
    return START - 3.6 * min(1.0, 4.0 ** (0.8 * x))


def diverging(x: float) -> float | None:
    return None if x > BEST else falling(x)


def worsening(x: float) -> float:
    return falling(x) if x <= BEST else START + 0.3 * x


def plateau(x: float) -> float:
    """Above the best rates the answers become a constant, a little worse with every step."""
    return falling(x) + max(0.0, min(1.4 * (x - BEST), 1.6 + 0.15 * x))


def found_within_a_step(curve: Curve, off: float, noise: float, *, runs: int = 100) -> float:
    """Return how often the final rate is within x4 of the best, from a start off by a factor from
    the middle of them."""
    hits = 0
    for seed in range(runs):
        rng = random.Random(seed)
        around = rng.uniform(-0.5, 0.5)
        end = landed(curve, math.log(off, 4) + BEST / 2 + around, noise, rng)
        hits += -1.01 <= end <= BEST + 1.01
    return hits / runs


def landed(curve: Curve, start: float, noise: float, rng: random.Random) -> float:
    def piece(number: int, rate: float) -> Mapping[str, Any]:
        loss = curve(start + math.log(rate, STEP))
        told: dict[str, Any] = {"learning_rate": rate, "start_loss": START}
        if loss is None:
            return {**told, "status": "diverged", "dev_score": None, "dev_loss": None}
        loss += rng.gauss(0.0, noise) * (START - loss)
        right = 0.25 + 0.7 * max(0.0, min(1.0, (2.2 - loss) / 1.8))
        score = sum(rng.random() < right for _ in range(200)) / 200
        return {**told, "status": "ok", "dev_score": score, "dev_loss": loss}

    cell = tuned_cell("lora", 1, 10_240, 1.0, 3)
    rate = search(cell, piece, Ranking(n_dev=200, constant=0.26)).learning_rate
    return math.inf if rate is None else start + math.log(rate, STEP)


OFF = (1.0, 10.0, 0.1, 100.0, 0.01)


@pytest.mark.parametrize("curve", [diverging, worsening, plateau])
@pytest.mark.parametrize("off", OFF)
def test_a_start_off_by_a_hundred_ends_within_a_step_of_the_best(curve: Curve, off: float) -> None:
    assert found_within_a_step(curve, off, noise=0.03) >= 0.9


@pytest.mark.parametrize("curve", [diverging, worsening])
@pytest.mark.parametrize("off", [1000.0, 0.001])
def test_a_start_off_by_a_thousand_mostly_does(curve: Curve, off: float) -> None:
    assert found_within_a_step(curve, off, noise=0.03) >= 0.7


def test_without_noise_a_good_start_costs_three_pieces() -> None:
    tried: list[float] = []

    def piece(number: int, rate: float) -> Mapping[str, Any]:
        tried.append(rate)
        loss = plateau(math.log(rate, STEP))
        told = {"status": "ok", "start_loss": START, "learning_rate": rate}
        return {**told, "dev_score": 0.5, "dev_loss": loss}

    search(tuned_cell("lora", 1, 10_240, 1.0, 3), piece, RANKING)
    assert tried == [1.0, 4.0, 0.25]


def test_a_loss_no_better_than_the_answers_frequency_is_a_constants() -> None:
    plateau = {0.01: ("ok", 0.36, 0.702), 0.04: ("ok", 0.31, 1.3), 0.0025: ("ok", 0.2, 0.755)}
    land = Landscape({**plateau, 0.000156: ("ok", 0.9, 0.2)}, start=1.36)
    assert chosen(land, Ranking(n_dev=200, constant=0.28, prior=0.687)) == 0.000156
    land = Landscape({**plateau, 0.000156: ("ok", 0.9, 0.2)}, start=1.36)
    assert chosen(land, Ranking(n_dev=200, constant=0.28)) == 0.01


def test_a_higher_rate_that_gains_next_to_nothing_on_a_constant_is_not_followed() -> None:
    pieces = {0.01: ("ok", 0.46, 0.837), 0.04: ("ok", 0.57, 0.768), 0.000625: ("ok", 0.8, 0.4)}
    land = Landscape(pieces, start=1.84)
    assert chosen(land, Ranking(n_dev=200, constant=0.28, prior=0.687)) == 0.000625
    assert land.tried == [0.01, 0.04, 0.000625, 0.000156]
    slow = {0.01: ("ok", 0.28, 1.27), 0.04: ("ok", 0.33, 1.07), 0.64: ("ok", 0.8, 0.4)}
    land = Landscape(slow, start=1.36)
    assert chosen(land, Ranking(n_dev=200, constant=0.28, prior=0.687)) == 0.64
