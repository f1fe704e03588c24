"""The plan of a run: how many presentations each technique may see, and what its search tries.

Every tuned technique has the same share of example presentations per seed, its search included:

    share = clamp(20 x n_train, 6,000, 16,000), rounded down to whole batches
    search: learning rates delta.learning_rate x {1, 4, 1/4, ...}, each with 12 % of the share;
            one more step of x4 beyond an edge of the grid that wins
    final:  what is left, from scratch, with the best learning rate on dev

Source: Hyperband's lesson that short runs rank learning rates (Li et al. 2018, arXiv 1603.06560);
20 epochs and the limits are ours, from the embedded base (its tasks saturate below 20 epochs).
The plan is written into the run folder before anything trains, so that a resumed run follows it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from savile.types import Kind

BATCH_SIZE: Final = 16
PRESENTATIONS_PER_ROW: Final = 20
LEAST_SHARE, MOST_SHARE = 6_000, 16_000
PIECE: Final = 0.12
"""Part of the share one learning rate gets in the search."""
SEARCH_LIMIT: Final = 0.48
"""Part of the share the whole search may take, the step beyond the edge included."""
FACTOR: Final = 4.0
"""Distance of neighboring learning rates."""
DEFAULT_EVALUATIONS: Final = 4
"""The final run keeps the best weights of this many looks at dev."""
SEARCH_EVALUATIONS: Final = 1
"""A search piece is judged once, at its end: its dev score only has to rank learning rates."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One technique on the board: how often it runs and what it may spend."""

    technique: str
    kind: Kind
    seeds: int
    """Runs with different seeds; 1 for what no seed changes, 0 for what cannot run."""
    stochastic: bool = False
    """Whether another seed gives other answers."""
    reason: str | None = None
    """Why it cannot run."""
    share: int = 0
    """Example presentations per seed, search included."""
    piece: int = 0
    """Presentations of one learning rate in the search, 0 without a search."""
    learning_rates: tuple[float, ...] = ()
    """The grid in the order it is tried; the first is the delta's default."""
    note: str | None = None
    """What to know about its score: a search that the share cut short."""

    def final_examples(self, n_tried: int) -> int:
        """Return the presentations left for the final run after `n_tried` search pieces."""
        return self.share - n_tried * self.piece


def default_share(n_train: int) -> int:
    """Return the share of presentations for `n_train` rows, in whole batches."""
    wanted = min(max(PRESENTATIONS_PER_ROW * n_train, LEAST_SHARE), MOST_SHARE)
    return whole_batches(wanted)


def whole_batches(examples: float) -> int:
    """Round presentations down to whole batches, one batch at least."""
    return max(int(examples) // BATCH_SIZE, 1) * BATCH_SIZE


def piece_examples(share: int, n_tried: int) -> int:
    """Return the presentations of one search piece; 0 when the share is too small to search."""
    if n_tried < 2:
        return 0
    part = min(PIECE, SEARCH_LIMIT / (n_tried + 1))
    return int(part * share) // BATCH_SIZE * BATCH_SIZE


def grid(middle: float, n: int) -> tuple[float, ...]:
    """Return `n` learning rates around `middle`: x1, x4, x1/4, x16, x1/16, ..."""
    steps = [(i + 1) // 2 * (1 if i % 2 else -1) for i in range(max(n, 1))]
    return tuple(_rounded(middle * FACTOR**step) for step in steps)


def beyond_edge(tried: Sequence[float], best: float) -> float | None:
    """Return one more learning rate when the best of at least three is an edge of the grid."""
    if len(tried) < 3:
        return None
    if best == max(tried):
        return _rounded(best * FACTOR)
    return _rounded(best / FACTOR) if best == min(tried) else None


def tuned_cell(name: str, seeds: int, share: int, rates: Sequence[float]) -> Cell:
    """Return the cell of a tuned technique; a single rate means no search.

    A share too small for a batch of every rate tries fewer, from the middle of the grid.
    """
    n_tried = next((n for n in range(len(rates), 1, -1) if piece_examples(share, n)), 1)
    piece = piece_examples(share, n_tried)
    note = f"{share} presentations are too few to try {len(rates)} learning rates: {n_tried} tried"
    return Cell(
        technique=name,
        kind="tuned",
        seeds=seeds,
        stochastic=True,
        share=share,
        piece=piece,
        learning_rates=tuple(rates[:n_tried]),
        note=note if n_tried < len(rates) else None,
    )


def to_json(cells: Sequence[Cell]) -> dict[str, Any]:
    """Return the plan as the document of plan.json."""
    return {"batch_size": BATCH_SIZE, "cells": [asdict(cell) for cell in cells]}


def from_json(document: Mapping[str, Any]) -> tuple[Cell, ...]:
    """Return the plan of a plan.json."""
    return tuple(
        Cell(**{**cell, "learning_rates": tuple(cell["learning_rates"])})
        for cell in document["cells"]
    )


def _rounded(rate: float) -> float:
    """Round to three digits, so that the board shows 0.0025 and not 0.00250000001."""
    return round(rate, 2 - math.floor(math.log10(abs(rate)))) if rate else rate
