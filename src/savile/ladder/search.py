"""The learning-rate search of one technique: short runs on a grid, then a step beyond its edge.

    best = argmax over rates of (dev score, -dev loss); a run that diverged ranks last

The sealed test has no part in it. Two rates with the same dev score (often 0 after a short run)
are told apart by the loss on dev.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from savile.ladder.plan import Cell, beyond_edge

Attempt = Callable[[int, float], Mapping[str, Any]]
"""Runs (or reads) search piece number i with a learning rate; returns its result."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search came to."""

    learning_rate: float | None
    """The rate for the final run; None when every piece failed."""
    results: tuple[Mapping[str, Any], ...] = ()
    """The pieces' results, in the order they ran."""


def search(cell: Cell, attempt: Attempt) -> Found:
    """Try the grid of `cell`, then one step beyond an edge that wins."""
    if not cell.piece:
        return Found(learning_rate=cell.learning_rates[0])
    results: list[Mapping[str, Any]] = []
    ranks: dict[float, tuple[float, float]] = {}

    def try_rate(rate: float) -> None:
        results.append(attempt(len(results), rate))
        ranks[rate] = rank(results[-1])

    for rate in cell.learning_rates:
        try_rate(rate)
    if (extra := beyond_edge(ranks)) is not None:
        try_rate(extra)
    best = max(ranks, key=lambda rate: ranks[rate])
    worked = math.isfinite(ranks[best][0])
    return Found(learning_rate=best if worked else None, results=tuple(results))


def rank(result: Mapping[str, Any]) -> tuple[float, float]:
    """Return the key by which pieces are ranked, larger is better."""
    if result["status"] != "ok" or result["dev_score"] is None:
        return (-math.inf, -math.inf)
    loss = result["dev_loss"]
    return (result["dev_score"], -math.inf if loss is None else -loss)
