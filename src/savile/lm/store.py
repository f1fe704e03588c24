"""Keys and values of sequences that are still being extended, after the forward pass of their tree.

The stem is held once for all; each sequence has slots of its own for the rest of its prompt and for
what is appended. A step appends E tokens to every sequence at once; which slots a token may see is
said by a mask, so the tokens of a step may continue each other or be alternatives.

Shape legend: H heads, P shared stem, A sequences, C slots, E tokens a step, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from savile.lm.tree import Layout, Tree


@dataclass(kw_only=True)
class Store:
    """What running sequences have computed so far, and where the next step writes."""

    stem_keys: dict[int, Tensor]
    """Per layer [H, P, D]."""
    stem_values: dict[int, Tensor]
    keys: dict[int, Tensor]
    """Per layer [H, A, C, D]."""
    values: dict[int, Tensor]
    prompt_slots: list[int]
    """How many slots each sequence's own prompt tokens take [A]."""
    stem_depth: int
    """P, the virtual tokens included: the position of slot 0."""
    slot_depth: Tensor
    """Position of the token in each slot, int64 [A, C]."""
    slots: Tensor
    """Where this step's tokens are written, int64 [A, E]."""
    allowed: Tensor
    """Which slots this step's tokens see, bool [A, E, C']."""

    def append(self, slots: Tensor, depth: Tensor, allowed: Tensor) -> None:
        """Announce the next step: slots and positions [A, E], and the mask [A, E, C']."""
        self.slots, self.allowed = slots, allowed
        rows = torch.arange(len(slots), device=slots.device)[:, None]
        self.slot_depth[rows, slots] = depth

    @property
    def capacity(self) -> int:
        """C, the slots of a sequence."""
        return self.slot_depth.shape[1]

    def reserve(self, slots: int) -> None:
        """Make room for at least `slots` slots, doubling so that copies stay rare."""
        if slots <= self.capacity:
            return
        more = max(slots, 2 * self.capacity) - self.capacity
        for held in (self.keys, self.values):
            for layer, space in held.items():
                held[layer] = functional.pad(space, (0, 0, 0, more))
        self.slot_depth = functional.pad(self.slot_depth, (0, more))

    @property
    def step_depth(self) -> Tensor:
        """Positions of this step's tokens, int64 [A, E]."""
        rows = torch.arange(len(self.slots), device=self.slots.device)[:, None]
        return self.slot_depth[rows, self.slots]

    def retain(self, rows: Tensor) -> None:
        """Keep only the sequences `rows` (int64), dropping those that ended."""
        for layer in self.keys:
            self.keys[layer] = self.keys[layer][:, rows]
            self.values[layer] = self.values[layer][:, rows]
        self.slot_depth = self.slot_depth[rows]
        self.prompt_slots = [self.prompt_slots[row] for row in rows.tolist()]


def after_prompts(tree: Tree, layout: Layout, room: int) -> Store:
    """Split what attention kept into the shared stem and each prompt's own slots.

    Args:
        tree: prompts without completions, already evaluated.
        layout: its plan, whose `keep` holds keys and values.
        room: slots to reserve beyond each prompt.

    Raises:
        ValueError: attention was not asked to keep anything.
    """
    if layout.keep is None:
        raise ValueError("evaluate the tree with a layout whose `keep` is a dictionary")
    root = layout.stem - tree.stem
    shared = min(tree.stem, int(tree.depth[tree.ends].min()) + 1)  # a prompt may end on the stem
    own = [[n + root for n in tree.path(int(end))][shared:] for end in tree.ends]
    sizes = [len(path) for path in own]
    index = _padded(own, max(sizes), layout.depth.device)
    p = shared + root
    store = Store(
        stem_keys={},
        stem_values={},
        keys={},
        values={},
        prompt_slots=sizes,
        stem_depth=p,
        slot_depth=p + torch.arange(max(sizes) + room, device=index.device).repeat(len(own), 1),
        slots=index[:, :0],
        allowed=index[:, :0, None].bool(),
    )
    for layer, (k, v) in layout.keep.items():
        store.stem_keys[layer], store.stem_values[layer] = k[:, :p], v[:, :p]
        store.keys[layer] = _slots(k, index, room)
        store.values[layer] = _slots(v, index, room)
    return store


def _padded(rows: Sequence[Sequence[int]], width: int, device: torch.device) -> Tensor:
    table = np.zeros((len(rows), width), dtype=np.int64)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return torch.from_numpy(table).to(device)


def _slots(packed: Tensor, index: Tensor, room: int) -> Tensor:
    """Lay packed [H, N, D] side by side by `index` [A, W]: [H, A, W + room, D]."""
    heads, _, width = packed.shape
    rows, used = index.shape
    space = packed.new_zeros(heads, rows, used + room, width)
    space[:, :, :used] = packed[:, index.flatten()].view(heads, rows, used, width)
    return space
