"""The best of many choices after each prompt, without scoring every choice.

    score(y) = scale(y) (log p(y | x) + bias(y))       scale 1, bias 0: the likeliest choice

The choices form a trie. A partial choice's log-probability bounds those of all its completions from
above, and with their highest bias and scale their scores (`Rule.bounds`), so the best partials are
extended first and the search ends when no partial reaches the best whole choice: the argmax is
exactly that of scoring everything (A* with an admissible bound). Prompts search side by side over a
shared stem; each step extends twice as many partials as the one before, so that a model that knows
the answer computes a few tokens, one that does not no more than about twice what it must, and
neither takes more than a few steps.

Source: Hart, Nilsson, Raphael 1968 (A*); for label tries the idea is common in constrained decoding
(De Cao et al. 2021, arXiv 2010.00904).

Cost: the prompt, and a few tokens for a model that knows, at most the trie's for one that does not.

Shape legend: A prompts, C choices, M nodes of the trie, N tokens of a step, U tokens that occur in
choices, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from savile.lm.model import LM
from savile.lm.store import Step, Store, after_prompts
from savile.lm.tree import Paths, build
from savile.lm.trie import Bias, Floats, Ints, Rule, Trie

Bools = npt.NDArray[np.bool_]
SMALL_TRIE: Final = 24
"""Below this many nodes one tree with all choices is cheaper than searching."""
FIRST_STEP: Final = 4
"""Most partials of a prompt that the first step extends."""
FULL_PASS: Final = 32
"""Tokens below which a forward pass costs about the same: few prompts start with wider steps."""
STEP_LOGITS: Final = 1 << 22
"""Most logits of one forward pass: 16 MB, memory that the allocator gives out again and again."""
TILE: Final = 1 << 17
"""Logits that are normalized at once on a CPU: what its cache holds (2.3x as fast as all)."""


class Chooser:
    """Finds the best choice after prompts; made once for a list of choices."""

    def __init__(
        self, lm: LM, choices: Sequence[Sequence[int]], *, per_token: bool = False
    ) -> None:
        """Build the trie.

        Args:
            lm: the model, with whatever delta is attached.
            choices: token ids of the answers, the token that ends them included; all different.
            per_token: scores are means over a choice's tokens.
        """
        self.lm, self.choices = lm, choices
        self.scale = [1.0 / len(choice) if per_token else 1.0 for choice in choices]
        self.trie = Trie(choices)
        self.searches = lm.uses_tree and len(self.trie) > SMALL_TRIE
        """Whether nodes are computed after the prompts and not in one tree with them."""
        self.room = FULL_PASS
        """Slots to reserve: what the prompts before took."""

    @torch.no_grad()
    def best(
        self, prompts: Sequence[Sequence[int]], biases: Sequence[Bias] | None = None
    ) -> list[int]:
        """Return for each prompt the number of the choice with the highest score.

        Args:
            prompts: token ids.
            biases: for each prompt the bias of each choice; none without it.
        """
        if biases is None:
            biases = [[0.0] * len(self.choices)] * len(prompts)
        if not self.searches:
            return [int(number) for number in self.scores(prompts, biases).argmax(-1).tolist()]
        search = self._search(prompts, biases, self.room)
        search.best_first()
        self.room = int(search.used_A.max())
        return [int(number) for number in search.scores().argmax(-1)]

    @torch.no_grad()
    def scores(self, prompts: Sequence[Sequence[int]], biases: Sequence[Bias]) -> torch.Tensor:
        """Return the score of every choice after every prompt [A, C], float32."""
        if self.searches:
            search = self._search(prompts, biases, len(self.trie))
            search.everything()
            return torch.from_numpy(search.scores()).float().to(self.lm.device)
        tree = build([Paths(prompt, self.choices) for prompt in prompts])
        logprobs_AC = self.lm.sequence_logprobs(tree).view(len(prompts), len(self.choices))
        bias_AC, scale_C = logprobs_AC.new_tensor(biases), logprobs_AC.new_tensor(self.scale)
        return (logprobs_AC + bias_AC) * scale_C

    def _search(
        self, prompts: Sequence[Sequence[int]], biases: Sequence[Bias], room: int
    ) -> _Search:
        return _Search(self.lm, prompts, Rule(self.trie, biases, self.scale), room)


class _Search:
    """The tries of many prompts, each computed as far as it is asked for."""

    def __init__(self, lm: LM, prompts: Sequence[Sequence[int]], rule: Rule, room: int) -> None:
        """Compute the prompts, and with them what each choice begins with.

        Args:
            lm: the model.
            prompts: token ids.
            rule: how their choices are scored.
            room: nodes of a prompt to reserve memory for.
        """
        self.lm, self.trie, self.rule = lm, rule.trie, rule
        trie = rule.trie
        self.wanted = torch.from_numpy(trie.vocabulary).to(lm.device)
        a, m, c = len(prompts), len(trie), len(trie.order)
        self.logprob_AM = np.full((a, m), -np.inf)
        self.bound_AM = np.full((a, m), -np.inf)
        """Of the nodes that may be computed next; minus infinity elsewhere."""
        self.score_AC = np.full((a, c), -np.inf)
        """Of the choices that are known, in the trie's order."""
        self.slot_AM = np.zeros((a, m), np.int64)
        self.used_A = np.zeros(a, np.int64)
        """Slots taken beyond the prompt."""
        tree = build([Paths(prompt, []) for prompt in prompts])
        layout = lm.plan(tree)
        layout.keep = {}
        first = self._logprobs(lm.logits(tree, tree.ends, layout))
        self.store = after_prompts(tree, layout, room)
        self.running = np.arange(a)
        """The prompts whose sequences the store holds."""
        self._read(self.running, np.full(a, -1), np.zeros(a), first)

    def scores(self) -> Floats:
        """Return what is known of the scores, in the order of the given list [A, C]."""
        found = np.empty_like(self.score_AC)
        found[:, self.trie.order] = self.score_AC
        return found

    def best_first(self) -> None:
        """Compute nodes until no score that is unknown can reach the best known one."""
        width = max(FIRST_STEP, FULL_PASS // len(self.running))
        while True:
            best_A1 = self.score_AC.max(1, keepdims=True)
            open_AM = (self.bound_AM >= best_A1) & (self.bound_AM > -np.inf)
            if not open_AM.any():
                return
            self._drop(open_AM)
            self._compute(open_AM & self._highest(open_AM, width))
            width *= 2

    def everything(self) -> None:
        """Compute all nodes."""
        self._compute(np.ones_like(self.bound_AM, bool))

    def _highest(self, open_AM: Bools, width: int) -> Bools:
        """Return which nodes have the highest bounds of their prompt, `width` each."""
        first = open_AM.shape[1] - width
        if first <= 0:
            return open_AM
        bounds = np.where(open_AM, self.bound_AM, -np.inf)
        chosen = np.zeros_like(open_AM)
        np.put_along_axis(chosen, np.argpartition(bounds, first, 1)[:, first:], True, 1)
        return chosen

    def _drop(self, open_AM: Bools) -> None:
        """Let sequences whose search has ended leave the store when they are half of it."""
        alive = open_AM[self.running].any(1)
        if 2 * alive.sum() <= len(self.running):
            self.running = self.running[alive]
            self.store.retain(torch.from_numpy(np.flatnonzero(alive)).to(self.lm.device))

    def _compute(self, chosen_AM: Bools) -> None:
        """Compute nodes whose parents are computed or chosen too."""
        places, nodes = np.nonzero(chosen_AM[self.running])  # prompt after prompt
        most = int(np.bincount(self.running[places]).max()) if len(places) else 0
        own = max(self.store.prompt_slots)
        self.store.reserve(own + int(self.used_A.max()) + most, own + len(self.trie))
        for start, end in self._parts(places):
            some = slice(*np.searchsorted(places, [start, end]).tolist())
            store = self.store.part(start, end)
            self._forward(store, self.running[start:end], places[some] - start, nodes[some])

    def _parts(self, places: Ints) -> Iterator[tuple[int, int]]:
        """Yield runs of sequences whose tokens go through one forward pass."""
        tokens = np.bincount(places, minlength=len(self.running))
        most = max(1, STEP_LOGITS // len(self.lm.sites.embedding_weight))
        start = total = 0
        for place, own in enumerate(tokens.tolist()):
            if total and total + own > most:
                yield start, place
                start, total = place, 0
            total += own
        if total:
            yield start, len(tokens)

    def _forward(self, store: Store, prompts: Ints, places: Ints, nodes: Ints) -> None:
        """Compute nodes of some sequences and read what follows them.

        Args:
            store: the sequences.
            prompts: the number of the prompt of each sequence.
            places: the sequence of each node [N], ascending.
            nodes: their numbers in the trie [N].
        """
        rows = prompts[places]
        counts = np.bincount(places, minlength=len(prompts))
        column = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
        own = np.asarray(store.prompt_slots)[places]
        self.slot_AM[rows, nodes] = slots = own + self.used_A[rows] + column
        self.used_A[prompts] += counts
        allowed = np.arange(slots.max() + 1) < own[:, None]
        path = self.slot_AM[rows[:, None], self.trie.ancestors[nodes]]
        np.put_along_axis(allowed, path, True, 1)
        width = int(counts.max())
        even = len(places) == width * len(counts)
        device = store.slot_depth.device
        depth = self.trie.depth[nodes]
        positions = store.stem_depth + own + depth
        step = Step(
            rows=torch.from_numpy(places).to(device),
            slots=torch.from_numpy(slots).to(device),
            depth=torch.from_numpy(positions).to(device),
            deepest=int(positions.max()),
            mask=torch.from_numpy(np.where(allowed, np.float32(0), np.float32(-np.inf))).to(device),
            places=None if even else torch.from_numpy(places * width + column).to(device),
            width=width,
        )
        store.append(step)
        tokens = torch.from_numpy(self.trie.tokens[nodes]).to(device)
        logprobs = self._logprobs(self.lm.step(tokens, store))
        for level in np.unique(depth):  # what follows a node of this very step comes after it
            at = np.flatnonzero(depth == level)
            so_far = self.logprob_AM[rows[at], nodes[at]]
            self._read(rows[at], nodes[at], so_far, logprobs[at])
        self.bound_AM[rows, nodes] = -np.inf

    def _read(self, rows: Ints, nodes: Ints, so_far: Floats, logprobs_NU: Floats) -> None:
        """Take in what follows some nodes of some prompts; -1 is the prompt itself."""
        source, target = self.trie.nodes_after(nodes)
        value = so_far[source] + logprobs_NU[source, self.trie.column[target]]
        self.logprob_AM[rows[source], target] = value
        self.bound_AM[rows[source], target] = self.rule.bounds(rows[source], target, value)
        source, target = self.trie.choices_after(nodes)
        value = so_far[source] + logprobs_NU[source, self.trie.last[target]]
        self.score_AC[rows[source], target] = self.rule.scores(rows[source], target, value)

    def _logprobs(self, logits_NV: torch.Tensor) -> Floats:
        """Return log-probabilities [N, U] of the tokens that occur in choices."""
        total, vocabulary = logits_NV.shape
        rows = max(1, TILE // vocabulary) if logits_NV.device.type == "cpu" else max(total, 1)
        tiles = [logits_NV[at : at + rows] for at in range(0, total, rows)]
        found = torch.cat([tile.log_softmax(-1)[:, self.wanted] for tile in tiles])
        values: Floats = found.cpu().double().numpy()
        return values
