"""What goes into the first layer that trains, computed once for every position of the data.

Where only later layers train, the layers before them give the same for the same tokens in every
pass over the data. A number stands for every path of tokens that has been seen, and a tree whose
paths are all known starts at the first layer that trains.

Source: the feature extraction of Peters, Ruder, Smith 2019, arXiv 1903.05987, section 2, for a
model whose later layers train.

Cost: D numbers for every position of the data, at most `LIMIT` bytes, and some 200 bytes for its
path; what no longer fits is computed each time. A pass costs 2 N less a token, N the parameters of
the layers before.

Shape legend: N packed positions, D width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final, final

import torch
from torch import Tensor, nn

from savile.lm.layout import Layout
from savile.lm.llama import Llama
from savile.lm.model import LM
from savile.lm.tree import Tree
from savile.lm.work import Work

LIMIT: Final = 1 << 27
"""Bytes of the states of one training."""


@contextlib.contextmanager
def remembered(lm: LM) -> Iterator[None]:
    """Compute what goes into the first layer that trains once, inside the context; what trains is
    attached and stays the same. Without frozen layers before it nothing is kept."""
    layers = list(lm.sites.layers().values())
    first = next((n for n, one in enumerate(layers[:-1]) if _touched(one)), len(layers) - 1)
    if first and not lm.root_tokens and not _touched(lm.sites.embedding):
        lm.below = Features(first, lm.work).of
    try:
        yield
    finally:
        lm.below = None


@final
class Features:
    """The states of all paths of tokens that one training has seen."""

    def __init__(self, first: int, work: Work) -> None:
        """Start with none.

        Args:
            first: number of the first layer that trains.
            work: counts what is recalled.
        """
        self.first, self.work = first, work
        self._numbers: dict[tuple[int, int], int] = {}
        """The number of a path, by that of the path without its last token, and that token."""
        self._states: Tensor | None = None

    def of(self, own: Llama, tree: Tree, x: Tensor, layout: Layout) -> tuple[int, Tensor]:
        """Return the number of the first layer that trains, and what goes into it, [N, D].

        Args:
            own: the forward pass.
            tree: the tokens.
            x: their input vectors [N, D].
            layout: the tree's plan.
        """
        if self._states is None:
            rows = LIMIT // (x.element_size() * x.shape[1])
            self._states, self._most = x.new_empty(0, x.shape[1]), rows
        found = self._numbered(tree)
        if found is not None and not found[1]:
            self.work.recalled += own.parameters_before(self.first) * len(tree)
            return self.first, self._states[torch.tensor(found[0], device=x.device)]
        with torch.no_grad():
            states = own.before(self.first, x, layout)
        if found is not None:
            self._keep(states, *found)
        return self.first, states

    def _numbered(self, tree: Tree) -> tuple[list[int], dict[tuple[int, int], int]] | None:
        """Return the number of each position's path, and the new paths with theirs; None where
        some path has no number and there is no room for its state."""
        room = len(self._numbers) + len(tree) <= self._most
        numbers: list[int] = []
        new: dict[tuple[int, int], int] = {}
        for token, parent in zip(tree.tokens.tolist(), tree.parent.tolist(), strict=True):
            path = (numbers[parent] if parent >= 0 else -1, token)
            number = self._numbers.get(path)
            if number is None:
                if not room:
                    return None
                number = new[path] = len(self._numbers) + len(new)
            numbers.append(number)
        return numbers, new

    def _keep(self, states: Tensor, numbers: list[int], new: dict[tuple[int, int], int]) -> None:
        """Keep the states of the new paths, whose numbers follow those that were known; a path is
        known once its state is there, since memory may run out before."""
        assert self._states is not None
        known, total = len(self._numbers), len(self._numbers) + len(new)
        if len(self._states) < total:
            rows = min(self._most, 2 * total)
            more = states.new_empty(rows - len(self._states), states.shape[1])
            self._states = torch.cat([self._states, more])
        places = torch.tensor([n >= known for n in numbers], device=states.device)
        self._states[known:total] = states[places]
        self._numbers |= new


def _touched(module: nn.Module) -> bool:
    """Return whether some of a module trains, or something is attached to it."""
    hooked = any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    return hooked or any(p.requires_grad for p in module.parameters())
