"""The attention plan of a token tree: which keys each query sees, without padding outside it.

The stem is cut into tiles of queries, each with the keys up to its last one; branches of like size
lie side by side in blocks. A query sees the stem and its ancestors within its branch, so no score
is computed between branches. The queries may be fewer than the keys: a prefix has none, and in the
last layer only the positions that predict something have one.

Shape legend: P stem, G branches, T tokens of the longest branch, S queries of the longest branch,
N packed positions, M queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from savile.lm.tree import Ints, KeysValues, Tree

TILE: Final = 256
"""Queries of one tile of the stem: the scores a causal tile computes in vain are at most this many
a query."""
LONG: Final = 1024
"""Queries of a stem above which its scores are not kept."""
LIKE_SIZE: Final = 1.5
"""A block's longest branch is at most this many times its shortest, plus a few tokens."""
FEW: Final = 8
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
    tiles: tuple[Tile, ...]
    """The queries of the stem, which are the first."""
    blocks: tuple[Block, ...]
    """The branches, in packed order."""
    depth: Tensor
    """Position ids, int64 [N], of prefix, virtual tokens and nodes."""
    asked: Tensor
    """Packed positions that have a query, int64 [M], ascending."""
    causal: int = 0
    """How many of the first queries, those of a long stem, have no tile: each sees all before."""
    prefix: Sequence[KeysValues] = ()
    """Per layer the keys and values [K, n, D] of the first n positions, at which nothing else is
    computed; empty where the model computes at every position."""
    calls: int = 0
    """How often attention ran with this plan (the probe expects one per layer)."""
    keep: dict[int, KeysValues] | None = field(default=None)
    """Where attention leaves keys and values per layer when generation asks for them."""


def plan(tree: Tree, device: torch.device, root: int = 0, silent: int = 0) -> Layout:
    """Return the attention plan of `tree` behind `root` virtual positions.

    Args:
        tree: the tokens.
        device: where the model computes.
        root: virtual positions before every sequence.
        silent: how many of them, the first, have no queries.
    """
    blocks: list[list[tuple[int, int]]] = []
    for start, end in tree.branches:  # from short to long
        if not blocks or end - start > LIKE_SIZE * (blocks[-1][0][1] - blocks[-1][0][0]) + FEW:
            blocks.append([])
        blocks[-1].append((start, end))
    depth = np.concatenate([np.arange(root), tree.depth + root])
    stem = root + tree.stem
    causal = stem - silent if stem - silent > LONG else 0
    return Layout(
        stem=stem,
        tiles=() if causal else _tiles(torch.arange(silent, stem, device=device)),
        causal=causal,
        blocks=tuple(_block(tree.parent, block, root, silent + causal, device) for block in blocks),
        depth=torch.from_numpy(depth).to(device),
        asked=torch.arange(silent, len(depth), device=device),
    )


def asking(layout: Layout, positions: Tensor) -> Layout:
    """Return the same plan with queries at some of its positions alone.

    Args:
        layout: a whole plan.
        positions: packed positions, int64, ascending, without repetition.
    """
    number = torch.full_like(layout.depth, -1)
    number[positions] = torch.arange(len(positions), device=positions.device)
    blocks = [_asking(block, number) for block in layout.blocks]
    return replace(
        layout,
        tiles=_tiles(positions[positions < layout.stem]),
        blocks=tuple(block for block in blocks if block.asked.numel()),
        asked=positions,
        causal=0,
    )


def _tiles(positions: Tensor) -> tuple[Tile, ...]:
    """Cut the stem's queries, which stand at some positions, into tiles."""
    found = []
    for start in range(0, len(positions), TILE):
        own = positions[start : start + TILE]
        keys = int(own[-1]) + 1
        seen = torch.arange(keys, device=own.device) <= own[:, None]
        found.append(Tile(start, start + len(own), keys, _mask(seen)))
    return tuple(found)


def _asking(block: Block, number: Tensor) -> Block:
    """Return a block with the queries that have a number."""
    own = torch.full_like(block.rows.flatten(), -1)
    own[block.real] = number[block.rows.flatten()[block.real]]
    own = own.view(block.rows.shape)
    wanted = own >= 0
    most = int(wanted.sum(1).max())
    places = (~wanted).int().argsort(dim=1, stable=True)[:, :most]
    queries = own.gather(1, places)
    mask = block.mask.gather(1, places[..., None].expand(-1, -1, block.mask.shape[-1]))
    asked = (queries >= 0).flatten().nonzero()[:, 0]
    return block._replace(queries=queries.clamp(min=0), asked=asked, mask=mask)


def _block(
    parent: Ints,
    branches: Sequence[tuple[int, int]],
    root: int,
    before: int,
    device: torch.device,
) -> Block:
    """Lay branches of like size side by side; `before` positions have no query here."""
    longest = max(end - start for start, end in branches)
    shape = (len(branches), longest)
    rows, valid = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=bool)
    allowed = np.zeros((*shape, longest), dtype=bool)
    lower = np.tril(np.ones((longest, longest), dtype=bool))
    for g, (start, end) in enumerate(branches):
        size = end - start
        rows[g, :size] = np.arange(start, end) + root
        valid[g, :size] = True
        allowed[g] = lower  # right for a chain, and keeps padded rows finite
        own = parent[start:end] - start
        if not np.array_equal(own[1:], np.arange(size - 1)):
            _ancestors(allowed[g], own)
    real = torch.from_numpy(valid.reshape(-1).nonzero()[0]).to(device)
    packed = torch.from_numpy(rows).to(device)
    mask = _mask(torch.from_numpy(allowed).to(device))
    span = (branches[0][0] + root, branches[-1][1] + root)
    return Block(packed, real, (packed - before).clamp(min=0), real, span, mask)


def _mask(seen: Tensor) -> Tensor:
    """Return 0 where a key is seen and -inf elsewhere, float32."""
    return torch.zeros(seen.shape, device=seen.device).masked_fill_(~seen, UNSEEN)


def _ancestors(allowed: npt.NDArray[np.bool_], parent: Ints) -> None:
    """Write ancestor-or-self into the leading block of `allowed` from local parent indices."""
    size = len(parent)
    allowed[:size, :size] = np.eye(size, dtype=bool)
    for node in range(size):
        if parent[node] >= 0:
            allowed[node] |= allowed[parent[node]]
