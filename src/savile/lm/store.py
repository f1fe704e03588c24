"""Keys and values of sequences that are still being extended, after the forward pass of their tree.

The stem is held once for all; each sequence has slots of its own for the rest of its prompt and for
what is appended. A step appends tokens to sequences, to each as many as it likes; which slots a
token may see is said by a mask, so the tokens of a step may continue each other or be alternatives.

Shape legend: H heads, P shared stem, A sequences, C slots, N tokens of a step, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from savile.lm.layout import Layout
from savile.lm.tree import Tree


@dataclass(kw_only=True)
class Step:
    """The tokens that are appended next, sequence after sequence."""

    rows: Tensor
    """The sequence of each token, int64 [N], ascending."""
    slots: Tensor
    """Where each is written, int64 [N]."""
    depth: Tensor
    """Their positions, int64 [N]."""
    deepest: int
    """The highest of them."""
    mask: Tensor
    """What is added to the scores of the sequence's slots: 0, or minus infinity where a token does
    not see one, float32 [N, C']."""
    places: Tensor | None
    """Where each stands in the table [A, E] of tokens by sequence, flat, int64 [N]; None where
    every sequence has the same number of tokens."""
    width: int
    """E: the most tokens of a sequence."""
    _lines: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def lines(self, heads: int, slots: int) -> Tensor:
        """Return where keys [H, N] are written in memory of the shape [A, H, C], flat [H * N]."""
        if (heads, slots) not in self._lines:
            head = torch.arange(heads, device=self.rows.device)[:, None]
            self._lines[heads, slots] = ((self.rows * heads + head) * slots + self.slots).flatten()
        return self._lines[heads, slots]


@dataclass(kw_only=True)
class Store:
    """What running sequences have computed so far, and what the next step appends."""

    stem_keys: dict[int, Tensor]
    """Per layer [H, D, P], as the product with queries reads them fastest."""
    stem_values: dict[int, Tensor]
    """Per layer [H, P, D]."""
    keys: dict[int, Tensor]
    """Per layer [A, H, C, D]."""
    values: dict[int, Tensor]
    prompt_slots: list[int]
    """How many slots each sequence's own prompt tokens take [A]."""
    stem_depth: int
    """P, the virtual tokens included: the position of slot 0."""
    slot_depth: Tensor
    """Position of the token in each slot, int64 [A, C]."""
    step: Step | None = None
    """What the next forward pass appends."""

    def append(self, step: Step) -> None:
        """Announce the next step."""
        self.step = step
        self.slot_depth[step.rows, step.slots] = step.depth

    @property
    def capacity(self) -> int:
        """C, the slots of a sequence."""
        return self.slot_depth.shape[1]

    def reserve(self, slots: int, most: int) -> None:
        """Make room for at least `slots` slots, doubling up to `most` so that copies stay rare."""
        if slots <= self.capacity:
            return
        more = max(slots, min(2 * self.capacity, most)) - self.capacity
        for held in (self.keys, self.values):
            for layer, space in held.items():
                held[layer] = functional.pad(space, (0, 0, 0, more))
        self.slot_depth = functional.pad(self.slot_depth, (0, more))

    def part(self, start: int, end: int) -> Store:
        """Return some sequences on their own; what they write is written here."""
        some = slice(start, end)
        return replace(
            self,
            keys={layer: held[some] for layer, held in self.keys.items()},
            values={layer: held[some] for layer, held in self.values.items()},
            prompt_slots=self.prompt_slots[some],
            slot_depth=self.slot_depth[some],
        )

    def retain(self, rows: Tensor) -> None:
        """Keep only the sequences `rows` (int64), dropping those that ended."""
        for layer in self.keys:
            self.keys[layer] = self.keys[layer][rows]
            self.values[layer] = self.values[layer][rows]
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
    own = [_below(tree, int(end), shared, root) for end in tree.ends]
    sizes = [len(path) for path in own]
    index = _padded(own, max(sizes) + room, layout.depth.device)
    p = shared + root
    store = Store(
        stem_keys={},
        stem_values={},
        keys={},
        values={},
        prompt_slots=sizes,
        stem_depth=p,
        slot_depth=p + torch.arange(index.shape[1], device=index.device).repeat(len(own), 1),
    )
    for layer, (k, v) in layout.keep.items():
        store.stem_keys[layer] = k[:, :p].transpose(1, 2).contiguous()
        store.stem_values[layer] = v[:, :p]
        store.keys[layer], store.values[layer] = _slots(k, index), _slots(v, index)
    return store


def _below(tree: Tree, node: int, shared: int, root: int) -> list[int]:
    """Return where the nodes down to `node` stand in memory, without the shared ones at the top."""
    found = []
    while node >= shared:  # the stem is packed first
        found.append(node + root)
        node = int(tree.parent[node])
    return found[::-1]


def _padded(rows: Sequence[Sequence[int]], width: int, device: torch.device) -> Tensor:
    """Return rows of packed positions side by side; what is free points at position 0, so that
    slots nobody sees hold numbers."""
    table = np.zeros((len(rows), width), dtype=np.int64)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return torch.from_numpy(table).to(device)


def _slots(packed: Tensor, index: Tensor) -> Tensor:
    """Lay packed [H, N, D] side by side by `index` [A, C]: [A, H, C, D]."""
    heads, n, width = packed.shape
    head = torch.arange(heads, device=index.device)[:, None]
    flat = (head * n + index[:, None]).flatten()
    return packed.reshape(-1, width).index_select(0, flat).view(len(index), heads, -1, width)
