"""A small tree that shows which ways of computing a model give what separate sequences give."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from savile.lm.tree import Paths, build

PROBE_TOLERANCE: Final = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 2e-2}
"""Largest relative difference of log-probabilities, tree against separate; trees reach 1e-6 in
fp32."""


class Probe:
    """A tree with a stem, branches of unequal length, and a branch that branches."""

    def __init__(self, vocabulary: int, dtype: torch.dtype) -> None:
        """Build it of tokens that every vocabulary of two words has.

        Args:
            vocabulary: V, how many tokens the model knows.
            dtype: the type it computes in.
        """
        size = min(vocabulary, 50)
        ids = [3 % size, 7 % size, 11 % size]
        self.tree = build(
            [
                Paths(ids, [[5 % size, 9 % size, 2 % size], [5 % size, 4 % size]]),
                Paths([*ids, 13 % size], [[1, 8 % size]]),
            ]
        )
        self.sources = np.unique(self.tree.targets.source)
        self.tolerance = PROBE_TOLERANCE[dtype]

    def same(self, got: Tensor, wanted: Tensor) -> bool:
        """Return whether two logits [S, V] at `sources` say the same of the tree's targets."""
        at = np.searchsorted(self.sources, self.tree.targets.source)
        ours, theirs = (x.log_softmax(-1)[at, self.tree.targets.token] for x in (got, wanted))
        error = float(((ours - theirs).abs() / theirs.abs().clamp(min=1.0)).max())
        return error <= self.tolerance
