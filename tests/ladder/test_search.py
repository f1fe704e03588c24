from collections.abc import Mapping
from typing import Any

from savile.ladder.plan import Cell, tuned_cell
from savile.ladder.search import best_rate, search

CELL = tuned_cell("lora", 1, 2_000, (0.01, 0.04, 0.0025))


class Landscape:
    """Scores by learning rate; remembers what was tried."""

    def __init__(self, scores: Mapping[float, tuple[str, float | None, float | None]]) -> None:
        self.scores = scores
        self.tried: list[float] = []

    def __call__(self, piece: int, rate: float) -> Mapping[str, Any]:
        assert piece == len(self.tried)
        self.tried.append(rate)
        status, score, loss = self.scores.get(rate, ("ok", 0.0, 9.0))
        return {"status": status, "dev_score": score, "dev_loss": loss, "learning_rate": rate}


def test_an_inner_winner_ends_the_search() -> None:
    land = Landscape({0.01: ("ok", 0.8, 1.0), 0.04: ("ok", 0.7, 1.0), 0.0025: ("ok", 0.5, 1.0)})
    assert search(CELL, land, n_dev=100).learning_rate == 0.01
    assert land.tried == [0.01, 0.04, 0.0025]


def test_an_edge_that_wins_is_extended_once() -> None:
    land = Landscape({0.04: ("ok", 0.7, 1.0), 0.16: ("ok", 0.9, 1.0)})
    assert search(CELL, land, n_dev=100).learning_rate == 0.16
    assert land.tried == [0.01, 0.04, 0.0025, 0.16]


def test_equal_scores_are_told_apart_by_the_loss() -> None:
    land = Landscape({0.01: ("ok", 0.0, 1.0), 0.04: ("ok", 0.0, 2.0), 0.0025: ("ok", 0.0, 3.0)})
    assert search(CELL, land, n_dev=100).learning_rate == 0.01


def test_a_rate_that_diverged_never_wins() -> None:
    land = Landscape(
        {
            0.01: ("ok", 0.1, 1.0),
            0.04: ("diverged", 0.9, None),
            0.16: ("diverged", 1.0, 0.0),
            0.0025: ("ok", 0.0, 1.0),
        }
    )
    assert search(CELL, land, n_dev=100).learning_rate == 0.01


def test_nothing_is_chosen_when_every_rate_failed() -> None:
    rates = (0.01, 0.04, 0.0025, 0.16, 0.000625)
    found = search(CELL, Landscape(dict.fromkeys(rates, ("failed", None, None))), n_dev=100)
    assert found.learning_rate is None
    assert all(result["status"] == "failed" for result in found.results)


def test_a_given_rate_is_not_searched() -> None:
    cell: Cell = tuned_cell("lora", 1, 2_000, (0.3,))
    land = Landscape({})
    assert search(cell, land, n_dev=100).learning_rate == 0.3
    assert land.tried == []


def test_scores_within_one_standard_error_are_told_apart_by_the_loss() -> None:
    scores = {0.01: ("ok", 0.50, 2.0), 0.04: ("ok", 0.47, 1.0), 0.0025: ("ok", 0.30, 0.5)}
    results = [Landscape(scores)(0, 0.01)]
    results += [
        {"status": "ok", "dev_score": s, "dev_loss": x, "learning_rate": r}
        for r, (_, s, x) in scores.items()
        if r != 0.01
    ]
    assert best_rate(results, n_dev=100) == 0.04
    assert best_rate(results, n_dev=10_000) == 0.01
    assert best_rate(results, n_dev=4) == 0.0025


def test_a_loss_that_is_as_good_leaves_the_default_rate() -> None:
    def piece(rate: float, loss: float) -> dict[str, object]:
        return {"status": "ok", "dev_score": 1.0, "dev_loss": loss, "learning_rate": rate}

    close = [piece(0.01, 0.001), piece(0.04, 0.0), piece(0.0025, 0.3)]
    assert best_rate(close, n_dev=100) == 0.01
    assert best_rate([piece(0.01, 0.1), piece(0.04, 0.0)], n_dev=100) == 0.04
