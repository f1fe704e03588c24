"""Which pairs of a token tree attention has to compute, told by two numbers a position.

    query at position i sees key j  <=>  j <= i < end_j

A tree is packed depth first, so what stands below a position follows it without a gap, and `end_j`
is where that ends: whatever the depth of the tree, two vectors say who sees whom. Blocks of pairs
of which no query sees a key are not computed, and blocks of which every query sees every key need
no mask.

Source: block masks: Dong, Feng, Guessous, Liang, He 2024, arXiv 2412.05496, section 4.

Cost: M N / `BLOCK`^2 steps, on the CPU, once for the layers that share the plan.

Shape legend: N packed positions, M of which have queries, B blocks of keys, A blocks of queries.
"""

from __future__ import annotations

import itertools
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from savile.lm.tree import Ints

BLOCK: Final = 128
"""Queries and keys of a block: what PyTorch's kernels are written for."""


class Sparse(NamedTuple):
    """The pairs of one plan, on one device; int32. Block tables hold, for each row, first the
    numbers of the blocks that count and then the others."""

    here: Tensor
    """Packed position of each query [M]."""
    end: Tensor
    """Packed position behind what stands below each key [N]."""
    some: Tensor
    """How many blocks of keys each block of queries sees in part [1, 1, A]."""
    some_keys: Tensor
    """Which [1, 1, A, B]."""
    full: Tensor
    """How many it sees wholly [1, 1, A]."""
    full_keys: Tensor
    """Which [1, 1, A, B]."""
    seen: Tensor
    """How many blocks of queries see each block of keys in part [1, 1, B]."""
    seen_by: Tensor
    """Which [1, 1, B, A]."""
    wholly: Tensor
    """How many see it wholly [1, 1, B]."""
    wholly_by: Tensor
    """Which [1, 1, B, A]."""


def ends(depth: Ints) -> Ints:
    """Return the index behind what stands below each node, int64 [N].

    Args:
        depth: of each node [N], depth first.
    """
    found = np.full_like(depth, len(depth))
    path = np.empty_like(depth)  # the last node of each depth that is still open
    starts = [0, *(np.flatnonzero(np.diff(depth) != 1) + 1).tolist(), len(depth)]
    below = 0
    for start, stop in itertools.pairwise(starts):
        top = int(depth[start])
        found[path[top:below]] = start
        below = top + stop - start
        path[top:below] = np.arange(start, stop)
    return found


def sparse(here: Ints, end: Ints, device: torch.device) -> Sparse:
    """Return who sees whom, block by block.

    Args:
        here: packed position of each query [M], ascending; at least one.
        end: what `ends` gave [N].
        device: where attention runs.
    """
    m, n = len(here), len(end)
    first, last = here[::BLOCK], here[np.minimum(np.arange(BLOCK, m + BLOCK, BLOCK), m) - 1]
    key = np.arange(0, n, BLOCK)
    behind = np.minimum(key + BLOCK, n)
    longest, shortest = np.maximum.reduceat(end, key), np.minimum.reduceat(end, key)
    some = (key <= last[:, None]) & (longest > first[:, None])
    full = (behind <= first[:, None] + 1) & (shortest > last[:, None])
    full[:, behind - key < BLOCK] = False  # the kernel looks for the keys' end in masked blocks
    full[m // BLOCK :] = False
    some &= ~full
    tables = [_ordered(table) for table in (some, full, some.T, full.T)]
    parts = [here, end, *(part for pair in tables for part in pair)]
    return Sparse(*(moved(part.astype(np.int32), device) for part in parts))


def moved(x: npt.NDArray[Any], device: torch.device) -> Tensor:
    """Return an array on a device, without waiting for what a GPU still computes."""
    own = torch.from_numpy(x)
    return (
        own.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else own.to(device)
    )


def _ordered(table: npt.NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Return how many of each row are true [1, 1, R], and the columns, those first [1, 1, R, C]."""
    return table.sum(1)[None, None], np.argsort(~table, axis=1, kind="stable")[None, None]
