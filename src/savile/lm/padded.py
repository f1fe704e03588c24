"""A token tree as a right-padded batch of its separate sequences: for models that take no tree."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from savile.lm.tree import Tree


class Padded(NamedTuple):
    """B sequences of at most T tokens behind n virtual positions."""

    ids: Tensor
    """Token ids, int64 [B, T]."""
    mask: Tensor
    """1 at virtual positions and tokens, 0 at padding, int64 [B, n + T]."""
    depth: Tensor
    """Position ids, int64 [B, n + T]."""
    places: tuple[list[int], list[int]]
    """Row and column of each node that was asked for."""


def padded(tree: Tree, nodes: np.ndarray[Any, Any], root: int, device: torch.device) -> Padded:
    """Return the root-to-leaf paths of a tree.

    Args:
        tree: the tokens.
        nodes: packed indices whose places are wanted.
        root: virtual positions before every sequence.
        device: where the model computes.
    """
    children = set(tree.parent.tolist())
    leaves = [n for n in range(len(tree)) if n not in children]
    paths = [tree.path(leaf) for leaf in leaves]
    longest = max(map(len, paths))
    ids = np.zeros((len(paths), longest), dtype=np.int64)
    mask = np.zeros((len(paths), root + longest), dtype=np.int64)
    place: dict[int, tuple[int, int]] = {}
    for row, path in enumerate(paths):
        ids[row, : len(path)] = tree.tokens[path]
        mask[row, : root + len(path)] = 1
        place.update({node: (row, at) for at, node in enumerate(path) if node not in place})
    rows, columns = map(list, zip(*(place[int(node)] for node in nodes), strict=True))
    return Padded(
        torch.from_numpy(ids).to(device),
        torch.from_numpy(mask).to(device),
        torch.arange(root + longest, device=device).expand(len(paths), -1),
        (rows, columns),
    )
