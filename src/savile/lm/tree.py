"""A batch is a token tree: sequences merged by common prefix, each shared token computed once.

Packed order: first the *stem* (the tokens every sequence starts with), then one contiguous run per
*branch* (a subtree below the stem), from short to long, each depth first. A token sees its own
ancestors and itself, so a branch needs the keys of the stem and of itself alone, and those that see
a token stand behind it without a gap (the attention plan: `layout.py`).

Targets are rows (source node, token, weight, sequence): a branching node predicts several tokens.

Source: the idea for preference pairs and group rollouts is Prefix Grouper (arXiv 2506.05433) and
Tree Training (arXiv 2511.00413); here it serves every objective and the label trie.

Cost: P + sum of own tokens instead of B * (P + T) tokens.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

Ints = npt.NDArray[np.int64]
KeysValues = tuple[Tensor, Tensor]
"""Keys and values of one layer."""


class Paths(NamedTuple):
    """One prompt and the completions that follow it, as token ids."""

    prompt: Sequence[int]
    completions: Sequence[Sequence[int]]
    weights: Sequence[float] | None = None
    """Weight of each completion's tokens in an objective; None means 1."""


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What the tree predicts, one entry per (sequence, completion token). All of shape [M]."""

    source: Ints
    """Packed index of the node whose output predicts the token."""
    token: Ints
    """Token id to predict."""
    weight: npt.NDArray[np.float32]
    sequence: Ints
    """Number of the completion the token belongs to, counted over all prompts."""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Packed tokens with their ancestry."""

    tokens: Ints
    """Token ids [N], stem first, then branch after branch, depth first."""
    depth: Ints
    """Distance from the root [N]: the position id."""
    parent: Ints
    """Packed index of the parent [N], -1 at a root; always smaller than the node's own index."""
    stem: int
    """How many leading tokens every sequence shares."""
    branches: tuple[tuple[int, int], ...]
    """(start, end) of each branch in packed order."""
    ends: Ints
    """Packed index of the last prompt token of each `Paths` [number of prompts]."""
    targets: Targets
    sequences: int
    """How many completions there are in all."""
    separate_tokens: int
    """Tokens the same work would take as separate sequences (what throughput counts)."""

    def __len__(self) -> int:
        return len(self.tokens)

    def path(self, node: int) -> list[int]:
        """Return the packed indices from the root to `node`."""
        steps = []
        while node >= 0:
            steps.append(node)
            node = int(self.parent[node])
        return steps[::-1]


class _Trie:
    """Nodes in insertion order, each with its children by token."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.parent: list[int] = []
        self.depth: list[int] = []
        self.children: list[dict[int, int]] = []
        self.roots: dict[int, int] = {}

    def insert(self, ids: Sequence[int], node: int) -> list[int]:
        """Walk or create `ids` below `node` (-1 is the root); return the nodes passed."""
        passed = []
        children = self.children[node] if node >= 0 else self.roots
        depth = self.depth[node] + 1 if node >= 0 else 0
        for token in ids:
            following = children.get(token)
            if following is None:
                following = len(self.tokens)
                children[token] = following
                self.tokens.append(token)
                self.parent.append(node)
                self.depth.append(depth)
                self.children.append({})
            node = following
            passed.append(node)
            children = self.children[node]
            depth += 1
        return passed

    def packing(self) -> tuple[list[int], int, list[int]]:
        """Return (packed order of nodes, stem length, sizes of the branches)."""
        children, order = self.roots, []
        while len(children) == 1:
            (node,) = children.values()
            order.append(node)
            children = self.children[node]
        branches = sorted(map(self._below, children.values()), key=len)
        sizes = [len(branch) for branch in branches]
        return [*order, *itertools.chain(*branches)], len(order), sizes

    def _below(self, node: int) -> list[int]:
        """Return a node and what stands below it, depth first."""
        found, left = [], [node]
        while left:
            node = left.pop()
            found.append(node)
            left.extend(reversed(self.children[node].values()))
        return found


def build(groups: Sequence[Paths]) -> Tree:
    """Merge prompts and their completions into one tree.

    The last token of a completion is only ever predicted, so it becomes a target and no node
    (unless it lies on another path). Prompts and completions have at least one token; the list
    of completions may be empty (then the prompt is only encoded, for generation).

    Raises:
        ValueError: a prompt or a completion without tokens.
    """
    trie = _Trie()
    ends: list[int] = []
    rows: list[tuple[int, int, float, int]] = []
    sequences = separate = 0
    prompt: Sequence[int] = ()
    passed: list[int] = []
    for group in groups:
        if not group.prompt or not all(map(len, group.completions)):
            raise ValueError("a prompt or a completion needs at least one token")
        shared = _common(prompt, group.prompt)
        passed = passed[:shared]
        passed += trie.insert(group.prompt[shared:], passed[-1] if passed else -1)
        prompt, end = group.prompt, passed[-1]
        ends.append(end)
        for number, completion in enumerate(group.completions):
            weight = 1.0 if group.weights is None else group.weights[number]
            sources = [end, *trie.insert(completion[:-1], end)]
            rows.extend((s, t, weight, sequences) for s, t in zip(sources, completion, strict=True))
            sequences += 1
            separate += len(group.prompt) + len(completion)
    order, stem, sizes = trie.packing()
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    parent = np.asarray(trie.parent, dtype=np.int64)[order]
    starts = np.cumsum([stem, *sizes])
    table = np.asarray([row[:2] + row[3:] for row in rows], dtype=np.int64).reshape(-1, 3)
    return Tree(
        tokens=np.asarray(trie.tokens, dtype=np.int64)[order],
        depth=np.asarray(trie.depth, dtype=np.int64)[order],
        parent=np.where(parent >= 0, place[parent], -1),
        stem=stem,
        branches=tuple(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)),
        ends=place[ends],
        targets=Targets(
            source=place[table[:, 0]],
            token=table[:, 1],
            weight=np.asarray([row[2] for row in rows], dtype=np.float32),
            sequence=table[:, 2],
        ),
        sequences=sequences,
        separate_tokens=separate,
    )


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many tokens two sequences begin with alike, by comparing halves."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
