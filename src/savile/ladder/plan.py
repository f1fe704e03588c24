"""The plan of a run: how many presentations each technique may see, and what its search tries.

Every tuned technique has the same share of example presentations per seed, its search included:

    share = clamp(20 x n_train, 6,000, 16,000), rounded down to whole batches
    search: `budget.search` learning rates from the technique's own (`search.py`), each with 12 %
            of the share, and one more where the best of them is at an edge
    final:  what is left, from scratch, with the best learning rate on dev

Source: Hyperband's lesson that short runs rank learning rates (Li et al. 2018, arXiv 1603.06560);
20 epochs and the limits are ours, from the embedded base (its tasks saturate below 20 epochs).
The plan is written into the run folder before anything trains, so that a resumed run follows it.
"""

from __future__ import annotations

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
    learning_rate: float = 0.0
    """Where the search starts; the rate of the final run where there is no search."""
    tries: int = 0
    """Learning rates the search tries when it need not go beyond an edge."""
    note: str | None = None
    """What to know about its score: a search that the share cut short."""

    @property
    def most_tries(self) -> int:
        """Learning rates the search tries at most."""
        return most_tries(self.tries)

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


def piece_examples(share: int, n_tried: int, objectives: int = 1) -> int:
    """Return the presentations of one search piece, whole batches for each of the objectives that
    divide it; 0 when the share is too small to search."""
    if n_tried < 2:
        return 0
    part, whole = min(PIECE, SEARCH_LIMIT / most_tries(n_tried)), BATCH_SIZE * objectives
    return int(part * share) // whole * whole


def most_tries(n_tried: int) -> int:
    """Return how many learning rates a search of `n_tried` tries when its best is at an edge; two
    rates have nothing but edges."""
    return n_tried + 1 if n_tried > 2 else n_tried


def tuned_cell(
    name: str, seeds: int, share: int, rate: float, tries: int, objectives: int = 1
) -> Cell:
    """Return the cell of a tuned technique whose search starts at `rate`; one try is no search.

    A share too small for a batch of every try, and of every objective of a chain, has fewer.
    """
    n_tried = next((n for n in range(tries, 1, -1) if piece_examples(share, n, objectives)), 1)
    note = f"{share} presentations are too few to try {tries} learning rates: {n_tried} tried"
    return Cell(
        technique=name,
        kind="tuned",
        seeds=seeds,
        stochastic=True,
        share=share,
        piece=piece_examples(share, n_tried, objectives),
        learning_rate=rate,
        tries=n_tried,
        note=note if n_tried < tries else None,
    )


def to_json(cells: Sequence[Cell]) -> dict[str, Any]:
    """Return the plan as the document of plan.json."""
    return {"batch_size": BATCH_SIZE, "cells": [asdict(cell) for cell in cells]}


def from_json(document: Mapping[str, Any]) -> tuple[Cell, ...]:
    """Return the plan of a plan.json."""
    return tuple(Cell(**cell) for cell in document["cells"])
