"""The trie of a list of choices, and how high the scores below a part of it can be.

    score(y) = scale(y) (log p(y | x) + bias(y))
    bound(s) = max over scales c of choices below s of c (log p(s | x) + highest bias below s)

No log-probability is above 0, so a partial choice's is no lower than that of any completion, and
the bound is never below a score that it stands for.

Nodes are tokens that are not the last of every choice they lie on; a choice's last token is only
ever predicted. The choices are kept in the order of their tokens, so that those below a node stand
side by side; parents come before their children, and the children of a node side by side.

Source: admissible bounds: Hart, Nilsson, Raphael 1968 (A*).

Shape legend: A prompts, C choices, M nodes, U tokens that occur.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bias = Sequence[float]
"""What is added to the log-probability of each choice, nats."""


class Edges(NamedTuple):
    """What some nodes lead to."""

    source: Ints
    """Position among the nodes that were asked for."""
    target: Ints
    """Number of the node, or of the choice in the trie's order."""


@final
class Trie:
    """The trie of a list of choices; arrays are indexed by node, or by choice in sorted order."""

    def __init__(self, choices: Sequence[Sequence[int]]) -> None:
        """Build it.

        Args:
            choices: token ids, at least one each, all different.
        """
        order = sorted(range(len(choices)), key=lambda number: list(choices[number]))
        self.order = np.asarray(order, np.int64)
        """The number of each sorted choice in the list that was given [C]."""
        found: list[tuple[int, int, int, int, int]] = []  # token, parent, depth, low, high
        above = np.full(len(order), -1, np.int64)
        level = [(-1, 0, len(order))]
        depth = 0
        while level:
            below: list[tuple[int, int, int]] = []
            for parent, low, high in level:
                for token, start, end in _groups(choices, order, depth, low, high):
                    below.append((len(found), start, end))
                    found.append((token, parent, depth, start, end))
                    above[start:end] = len(found) - 1
            level, depth = below, depth + 1
        table = np.asarray(found, np.int64).reshape(-1, 5)
        self.parent, self.depth = table[:, 1], table[:, 2]
        self.low, self.high = table[:, 3], table[:, 4]
        """The choices below each node: from `low` to before `high` [M]."""
        self.above = above
        """The node before the last token of each choice, -1 for the prompt [C]."""
        last = np.asarray([choices[number][-1] for number in order], np.int64)
        self.vocabulary, columns = np.unique(np.r_[table[:, 0], last], return_inverse=True)
        """The tokens that occur, ascending [U]."""
        self.column, self.last = columns[: len(table)], columns[len(table) :]
        """Column in `vocabulary` of each node's token [M] and of each choice's last token [C]."""
        self.tokens = table[:, 0]
        """Token id of each node [M]."""
        self.ancestors = _ancestors(self.parent)
        """Each node and the nodes above it, filled up with itself [M, deepest + 1]."""
        self._nodes = _Children(self.parent)
        self._ends = _Children(self.above)

    def __len__(self) -> int:
        return len(self.tokens)

    def nodes_after(self, nodes: Ints) -> Edges:
        """Return the nodes that follow some nodes; -1 is the prompt."""
        return self._nodes.of(nodes)

    def choices_after(self, nodes: Ints) -> Edges:
        """Return the choices that the token after some nodes completes."""
        return self._ends.of(nodes)


def _groups(
    choices: Sequence[Sequence[int]], order: Sequence[int], depth: int, low: int, high: int
) -> list[tuple[int, int, int]]:
    """Return (token, low, high) of the nodes at a depth among sorted choices that agree so far."""
    found: list[tuple[int, int, int]] = []
    for place in range(low, high):
        choice = choices[order[place]]
        if len(choice) <= depth + 1:
            continue
        if found and found[-1][0] == choice[depth]:
            found[-1] = (choice[depth], found[-1][1], place + 1)
        else:
            found.append((choice[depth], place, place + 1))
    return found


def _ancestors(parent: Ints) -> Ints:
    rows: list[list[int]] = []
    for node, before in enumerate(parent.tolist()):
        rows.append([*(rows[before] if before >= 0 else []), node])
    width = max(map(len, rows), default=0)
    filled = [row + row[-1:] * (width - len(row)) for row in rows]
    return np.asarray(filled, np.int64).reshape(len(rows), width)


class _Children:
    """Items by the node above them, which is -1 for the prompt."""

    def __init__(self, above: Ints) -> None:
        self.items = np.argsort(above, kind="stable")
        counts = np.bincount(above + 1)
        self.ends = np.cumsum(counts)
        self.starts = self.ends - counts

    def of(self, nodes: Ints) -> Edges:
        known = nodes + 1 < len(self.starts)
        at = np.where(known, nodes + 1, 0)
        counts = np.where(known, self.ends[at] - self.starts[at], 0)
        source = np.repeat(np.arange(len(nodes)), counts)
        within = np.arange(len(source)) - np.repeat(np.cumsum(counts) - counts, counts)
        return Edges(source, self.items[self.starts[at[source]] + within])


@final
class Rule:
    """How the log-probabilities of several prompts become scores, and what bounds them."""

    def __init__(self, trie: Trie, biases: Sequence[Bias], scale: Sequence[float]) -> None:
        """Prepare the rule.

        Args:
            trie: the choices.
            biases: for each prompt the bias of each choice, nats, in the order of the given list.
            scale: of each choice, above 0, likewise.
        """
        known = {id(bias): bias for bias in biases}  # most prompts have one and the same list
        place = {key: number for number, key in enumerate(known)}
        rows = np.asarray([place[id(bias)] for bias in biases], np.int64)
        bias_KC = np.asarray(list(known.values()), np.float64)[:, trie.order]
        self.trie = trie
        self.scale = np.asarray(scale, np.float64)[trie.order]
        self.bias = bias_KC[rows]
        self._most = _over(np.maximum, bias_KC, trie)[rows]
        self._low = _over(np.minimum, self.scale[None], trie)[0]
        self._high = _over(np.maximum, self.scale[None], trie)[0]

    def scores(self, rows: Ints, choices: Ints, logprobs: Floats) -> Floats:
        """Return the scores of whole choices of some prompts; all three of one length."""
        scored: Floats = self.scale[choices] * (logprobs + self.bias[rows, choices])
        return scored

    def bounds(self, rows: Ints, nodes: Ints, logprobs: Floats) -> Floats:
        """Return what no choice below a node exceeds that begins with this log-probability."""
        most = logprobs + self._most[rows, nodes]
        # a negative value is nearest to 0 at the least scale
        found: Floats = np.maximum(self._low[nodes] * most, self._high[nodes] * most)
        return found


def _over(reduce: np.ufunc, values_KC: Floats, trie: Trie) -> Floats:
    """Reduce over the choices below each node: [K, C] -> [K, M]."""
    padded = np.concatenate([values_KC, values_KC[:, -1:]], 1)  # `high` may be past the last
    limits = np.stack([trie.low, trie.high], 1).ravel()
    if not len(trie):
        return np.zeros((len(values_KC), 0))
    found: Floats = reduce.reduceat(padded, limits, axis=1)[:, ::2]
    return found
