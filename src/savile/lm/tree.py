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

import bisect
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
    """Nodes in insertion order. What is new of a sequence is one chain, so the first child of most
    nodes is the next one; other children are kept by (node, token)."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.parent: list[int] = []
        self.chains: list[tuple[int, int]] = []
        """(first node, its parent) of each chain; the other parents are the node before."""
        self._others: dict[tuple[int, int], int] = {}

    def insert(self, ids: Sequence[int], node: int) -> list[int]:
        """Walk or create `ids` below `node` (-1 is the root); return the nodes passed."""
        passed: list[int] = []
        for number, token in enumerate(ids):
            following = self._child(node, token)
            if following < 0:
                return passed + self._grow(ids[number:], node)
            passed.append(following)
            node = following
        return passed

    def _child(self, node: int, token: int) -> int:
        first = node + 1
        if first < len(self.tokens) and self.parent[first] == node and self.tokens[first] == token:
            return first
        return self._others.get((node, token), -1)

    def _grow(self, ids: Sequence[int], node: int) -> list[int]:
        """Append a chain below a node; return its nodes."""
        start = len(self.tokens)
        if not start or node + 1 < start:  # else it goes on where the last one ends
            self.chains.append((start, node))
            self._others[node, ids[0]] = start
        self.tokens += ids
        self.parent.append(node)
        self.parent += range(start, start + len(ids) - 1)
        return list(range(start, len(self.tokens)))

    def depth(self) -> Ints:
        """Return the distance of each node from the root."""
        depth = np.arange(len(self.tokens))
        for number, (start, parent) in enumerate(self.chains):
            end = self.chains[number + 1][0] if number + 1 < len(self.chains) else len(depth)
            depth[start:end] += (depth[parent] + 1 if parent >= 0 else 0) - start
        return depth

    def packing(self) -> tuple[Ints, int, list[int]]:
        """Return (packed order of nodes, stem length, sizes of the branches)."""
        starts, parents = [start for start, _ in self.chains], [parent for _, parent in self.chains]
        ends = [*starts[1:], len(self.tokens)]
        # the stem is a chain, as long as nothing else begins on it
        stem = min([len(self.tokens), *(parent + 1 for parent in parents[1:])])
        tops = [0] if ends[0] > stem else []
        below: list[list[int]] = [[] for _ in starts]
        for chain, parent in enumerate(parents[1:], 1):
            known = tops if parent < stem else below[bisect.bisect(starts, parent) - 1]
            known.append(chain)
        branches = []
        for top in tops:
            branch: list[int] = []
            left = [top]
            while left:
                chain = left.pop()
                branch += range(max(starts[chain], stem), ends[chain])
                left += sorted(below[chain], key=lambda one: (parents[one], -one))  # deepest first
            branches.append(branch)
        branches.sort(key=len)
        sizes = [len(branch) for branch in branches]
        order = [*range(stem), *itertools.chain(*branches)]
        return np.asarray(order, dtype=np.int64), stem, sizes


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
    sources: list[int] = []
    targets: list[int] = []
    lengths: list[int] = []
    weights: list[float] = []
    separate = 0
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
            sources += [end, *trie.insert(completion[:-1], end)]
            targets += completion
            lengths.append(len(completion))
            weights.append(1.0 if group.weights is None else group.weights[number])
            separate += len(group.prompt) + len(completion)
    order, stem, sizes = trie.packing()
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    parent = np.asarray(trie.parent, dtype=np.int64)[order]
    starts = np.cumsum([stem, *sizes])
    return Tree(
        tokens=np.asarray(trie.tokens, dtype=np.int64)[order],
        depth=trie.depth()[order],
        parent=np.where(parent >= 0, place[parent], -1),
        stem=stem,
        branches=tuple(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)),
        ends=place[ends],
        targets=Targets(
            source=place[np.asarray(sources, dtype=np.int64)],
            token=np.asarray(targets, dtype=np.int64),
            weight=np.repeat(np.asarray(weights, dtype=np.float32), lengths),
            sequence=np.repeat(np.arange(len(lengths)), lengths),
        ),
        sequences=len(lengths),
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
