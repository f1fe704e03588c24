"""The learning-rate search of one technique: short runs on a grid, then a step beyond its edge.

    s* = the highest dev score,  se = sqrt(s* (1 - s*) / n_dev)
    l* = the lowest dev loss among the rates whose dev score is at least s* - se
    best = the first of these, in the order of the grid, whose dev loss is at most l* + 0.02

A run that diverged is never chosen; rates without a dev loss (dev rows whose steps are missing) are
ranked by score alone; the sealed test has no part in it. After a short run scores on
few dev rows scatter, and many are 0, where the loss on dev still tells rates apart.
Source: the one-standard-error rule (Breiman, Friedman, Olshen, Stone 1984, section 3.4.3), with the
loss in the place of the simplest model. Cost: see `plan.py`; it is inside the technique's share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from savile.ladder.plan import Cell, beyond_edge

Piece = Callable[[int, float], Mapping[str, Any]]
"""Runs (or reads) search piece number i with a learning rate; returns its result."""


AS_GOOD: Final = 0.02
"""Nats a token that tell nothing apart: a rate four times the default that looked better by 0.001
after a short run did not train with two of five seeds (docs/log.md)."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search came to."""

    learning_rate: float | None
    """The rate for the final run; None when every piece failed."""
    results: tuple[Mapping[str, Any], ...] = ()
    """The pieces' results, in the order they ran."""

    @property
    def settings(self) -> dict[str, Any]:
        """The chosen learning rate, and the dev score of every rate that was tried."""
        tried = {f"{r['learning_rate']:g}": r.get("dev_score") for r in self.results}
        rate = {"learning_rate": self.learning_rate}
        return {**rate, "learning_rates_tried": tried} if tried else rate


def search(cell: Cell, attempt: Piece, n_dev: int, top: float = 1.0) -> Found:
    """Try the grid of `cell`, then one step beyond an edge that wins.

    Args:
        cell: the technique's plan.
        attempt: runs one piece.
        n_dev: dev rows, which say how much a score scatters.
        top: the metric's highest score.
    """
    if not cell.piece:
        return Found(learning_rate=cell.learning_rates[0])
    results: list[Mapping[str, Any]] = []
    for rate in cell.learning_rates:
        results.append(attempt(len(results), rate))
    best = best_rate(results, n_dev, top)
    if best is not None and (extra := beyond_edge(cell.learning_rates, best)) is not None:
        results.append(attempt(len(results), extra))
        best = best_rate(results, n_dev, top)
    return Found(learning_rate=best, results=tuple(results))


def best_rate(results: Sequence[Mapping[str, Any]], n_dev: int, top: float = 1.0) -> float | None:
    """Return the learning rate to train with, None when every piece failed."""
    good = [r for r in results if r["status"] == "ok" and r["dev_score"] is not None]
    if not good:
        return None
    highest = max(r["dev_score"] for r in good)
    share = min(max(highest / top, 0.0), 1.0)
    enough = highest - top * math.sqrt(share * (1 - share) / max(n_dev, 1))
    tied = [r for r in good if r["dev_score"] >= enough]
    lowest = min(map(_loss, tied))
    best = next(r for r in tied if _loss(r) <= lowest + AS_GOOD)
    return float(best["learning_rate"])


def _loss(result: Mapping[str, Any]) -> float:
    return math.inf if result["dev_loss"] is None else float(result["dev_loss"])
