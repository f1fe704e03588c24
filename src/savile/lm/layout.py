"""The attention plan of a token tree: which keys each query sees, without padding outside it.

The stem is cut into tiles of queries, each with the keys up to its last one; branches of like size
lie side by side in blocks. A query sees the stem and its ancestors within its branch, so no score
is computed between branches. The queries may be fewer than the keys: a prefix has none, and in the
last layer only the positions that predict something have one.

A plan is made of arrays on the CPU; what the device needs of it is laid out and sent there when
attention first asks for it.

Shape legend: P stem, G branches, T tokens of the longest branch, S queries of the longest branch,
N packed positions, M queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from savile.lm.sparse import Sparse, ends, moved, sparse
from savile.lm.tree import Ints, KeysValues, Tree

TILE: Final = 256
"""Queries of one tile of the stem: the scores a causal tile computes in vain are at most this many
a query."""
LONG: Final = 1024
"""Queries of a stem above which its scores are not kept."""
LIKE_SIZE: Final = 1.1
"""A block's longest branch is at most this many times its shortest, plus a few tokens."""
FEW: Final = 8
SCORES: Final = 1 << 17
"""Most scores of a head in one block of several branches: those of all heads then stay in a
processor's cache."""
UNSEEN: Final = float("-inf")


class Tile(NamedTuple):
    """Neighboring queries of the stem and the keys they see."""

    start: int
    end: int
    """They are the queries `start` to `end`."""
    keys: int
    """They see some of the first `keys` positions."""
    mask: Tensor
    """What is added to their scores, 0 or -inf, float32 [end - start, keys]."""


class Block(NamedTuple):
    """Branches of like size, side by side in the attention."""

    rows: Tensor
    """Packed position of each branch token, int64 [G, T]; padding points at position 0."""
    real: Tensor
    """Which of the flattened `rows` are no padding, int64, in packed order."""
    queries: Tensor
    """Number of each query among those of tiles and blocks, int64 [G, S]; padding points at
    query 0."""
    asked: Tensor
    """Which of the flattened `queries` are no padding, int64, in packed order."""
    span: tuple[int, int]
    """The first packed position of its branches, and the one behind the last."""
    mask: Tensor
    """What is added to the scores of a branch's queries with its own keys, 0 or -inf, float32
    [G, S, T]."""


@dataclass(kw_only=True)
class Layout:
    """The attention plan of one tree on one device; a prefix and virtual tokens count to its stem,
    to its packed positions and to its depths."""

    stem: int
    """P: leading packed positions that every branch sees."""
    branches: Sequence[tuple[int, int]]
    """(start, end) of each branch, from short to long."""
    end: Ints
    """Position behind what stands below each position [N]."""
    queries: Ints
    """Packed positions that have a query [M], ascending."""
    depth: Tensor
    """Position ids, int64 [N], of prefix, virtual tokens and nodes."""
    deepest: int
    """The highest of them."""
    causal: int = 0
    """How many of the first queries, those of a long stem, have no tile: each sees all before."""
    fused: bool = False
    """Whether `flex.py` may serve it."""
    prefix: Sequence[KeysValues] = ()
    """Per layer the keys and values [K, n, D] of the first n positions, at which nothing else is
    computed; empty where the model computes at every position."""
    calls: list[tuple[int, int, int]] = field(default_factory=list)
    """Heads, key-value heads and width of a head of each layer that has attended with this plan
    (the probe expects one entry per layer)."""
    keep: dict[int, KeysValues] | None = None
    """Where attention leaves keys and values per layer when generation asks for them."""

    @cached_property
    def asked(self) -> Tensor:
        """Packed positions that have a query, int64 [M], ascending."""
        return moved(self.queries, self.depth.device)

    @cached_property
    def on_stem(self) -> int:
        """How many of the queries, the first, stand on the stem."""
        return int(np.searchsorted(self.queries, self.stem))

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """The queries of the stem, which are the first."""
        starts = () if self.causal else range(0, self.on_stem, TILE)
        return tuple(_tile(self, start, min(start + TILE, self.on_stem)) for start in starts)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The branches that have queries, in packed order."""
        groups: list[list[tuple[int, int]]] = []
        for start, end in self.branches:
            first = groups[-1][0] if groups else (0, 0)
            like = end - start <= LIKE_SIZE * (first[1] - first[0]) + FEW
            own = (end - start) * (end - start + self.stem)
            if not groups or not like or own * (len(groups[-1]) + 1) > SCORES:
                groups.append([])
            groups[-1].append((start, end))
        found = (_block(self, np.asarray(group)) for group in groups)
        return tuple(block for block in found if block is not None)

    @cached_property
    def sparse(self) -> Sparse:
        """Who sees whom, for a kernel that takes the tree as a whole."""
        return sparse(self.queries, self.end, self.depth.device)


def plan(tree: Tree, device: torch.device, root: int = 0, silent: int = 0) -> Layout:
    """Return the attention plan of `tree` behind `root` virtual positions.

    Args:
        tree: the tokens.
        device: where the model computes.
        root: virtual positions before every sequence.
        silent: how many of them, the first, have no queries.
    """
    depth = np.concatenate([np.arange(root), tree.depth + root])
    stem = root + tree.stem
    return Layout(
        stem=stem,
        branches=[(start + root, end + root) for start, end in tree.branches],
        end=ends(depth),
        queries=np.arange(silent, len(depth)),
        depth=moved(depth, device),
        deepest=int(depth.max()),
        causal=stem - silent if stem - silent > LONG else 0,
    )


def asking(layout: Layout, positions: Ints) -> Layout:
    """Return the same plan with queries at some of its positions alone.

    Args:
        layout: a whole plan.
        positions: packed positions, ascending, without repetition.
    """
    return replace(layout, queries=positions, causal=0, calls=[])


def _tile(layout: Layout, start: int, end: int) -> Tile:
    keys = int(layout.queries[end - 1]) + 1
    seen = torch.arange(keys, device=layout.depth.device) <= layout.asked[start:end, None]
    return Tile(start, end, keys, _mask(seen))


def _block(layout: Layout, branches: Ints) -> Block | None:
    """Lay branches of like size [G, 2] side by side; None where they have no query."""
    first, last = branches.T
    column = np.arange((last - first).max())
    valid = column < (last - first)[:, None]
    rows = np.where(valid, first[:, None] + column, 0)
    numbers = np.searchsorted(layout.queries, [*first, last[-1]])
    counts = np.diff(numbers)
    asked = np.arange(counts.max()) < counts[:, None]
    if not asked.size:
        return None
    number = np.where(asked, numbers[:-1, None] + np.arange(counts.max()), 0)
    here = np.where(asked, layout.queries[number] - first[:, None], 0)  # padding sees the first key
    end = layout.end[rows] - first[:, None]
    seen = (column <= here[..., None]) & (here[..., None] < end[:, None])
    return Block(
        rows=moved(rows, layout.depth.device),
        real=moved(np.flatnonzero(valid), layout.depth.device),
        queries=moved(np.where(asked, number - layout.causal, 0), layout.depth.device),
        asked=moved(np.flatnonzero(asked), layout.depth.device),
        span=(int(first[0]), int(last[-1])),
        mask=_mask(moved(seen, layout.depth.device)),
    )


def _mask(seen: Tensor) -> Tensor:
    """Return 0 where a key is seen and -inf elsewhere, float32."""
    return torch.zeros(seen.shape, device=seen.device).masked_fill_(~seen, UNSEEN)
