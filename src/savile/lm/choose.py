"""The likeliest of many choices after each prompt, without scoring every choice.

The choices form a trie. A partial choice's log-probability bounds all its completions from above,
so the best partial is extended first and the search ends when no partial beats the best whole
choice: the argmax is exactly that of scoring everything (A* with an admissible bound). Runs of
forced tokens are one segment, evaluated at once; prompts search side by side over a shared stem.

Source: Hart, Nilsson, Raphael 1968 (A*); for label tries the idea is common in constrained decoding
(De Cao et al. 2021, arXiv 2010.00904).

Cost: a few segments for a model that knows, up to the whole trie for one that does not.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from savile.lm.model import LM
from savile.lm.store import Store, after_prompts
from savile.lm.tree import Paths, build

Floats = npt.NDArray[np.float32]
SMALL_TRIE: Final = 24
"""Below this many inner tokens one tree with all choices is cheaper than searching."""
WORTH_SEARCHING: Final = 0.25
"""Share of the trie's tokens after which a search is given up (a step of it costs about twice)."""
STEP_LOGITS: Final = 1 << 21
"""Most logits of one prompt and step; bounds the tokens of a step for wide vocabularies."""


class Segment(NamedTuple):
    """Tokens that follow each other without a choice."""

    tokens: list[int]
    whole: dict[int, int]
    """Tokens that complete a choice after this segment, with the choice's number."""
    partial: dict[int, int]
    """Tokens that start another segment, with its number."""


class Chooser:
    """Finds the likeliest choice after prompts; made once for a list of choices."""

    def __init__(self, lm: LM, choices: Sequence[Sequence[int]]) -> None:
        """Build the trie.

        Args:
            lm: the model, with whatever delta is attached.
            choices: token ids of the answers, the token that ends them included; all different.
        """
        self.lm, self.choices = lm, choices
        self.segments = _segments(choices)
        inner = sum(len(segment.tokens) for segment in self.segments)
        self.limit = int(WORTH_SEARCHING * inner)
        self.small = inner <= SMALL_TRIE
        self.searches = lm.uses_tree
        """Whether searching has paid so far."""

    @torch.no_grad()
    def best(self, prompts: Sequence[Sequence[int]]) -> list[int]:
        """Return for each prompt the number of the choice with the highest log-probability.

        A search that has opened a good part of the trie is given up for scoring all of it, and a
        model that makes most searches end so is not searched again.
        """
        found: list[int | None] = [None] * len(prompts)
        if self.small:
            return self._together(prompts)
        if self.searches:
            found = _Search(self.lm, self.segments, self.limit).run(prompts)
            self.searches = found.count(None) <= len(found) / 2
        return [
            self._together([prompt])[0] if number is None else number  # a stem: short branches
            for prompt, number in zip(prompts, found, strict=True)
        ]

    def _together(self, prompts: Sequence[Sequence[int]]) -> list[int]:
        """Score every choice after every prompt in one tree."""
        tree = build([Paths(prompt, self.choices) for prompt in prompts])
        scores = self.lm.sequence_logprobs(tree).view(len(prompts), len(self.choices))
        return [int(number) for number in scores.argmax(-1).tolist()]


def _segments(choices: Sequence[Sequence[int]]) -> list[Segment]:
    """Return the compressed trie of the choices; segment 0 is the empty start."""
    found: list[Segment] = []

    def add(numbers: list[int], start: int, tokens: list[int]) -> int:
        at = start + len(tokens)
        while True:  # extend while every choice goes on with one and the same token
            following = {choices[n][at] for n in numbers}
            ends = any(len(choices[n]) == at + 1 for n in numbers)
            if ends or len(following) > 1 or not tokens:
                break
            tokens = [*tokens, *following]
            at += 1
        place = len(found)
        found.append(Segment(tokens, {}, {}))
        for token in sorted({choices[n][at] for n in numbers}):
            group = [n for n in numbers if choices[n][at] == token]
            longer = [n for n in group if len(choices[n]) > at + 1]
            for n in group:
                if len(choices[n]) == at + 1:
                    found[place].whole[token] = n
            if longer:
                found[place].partial[token] = add(longer, at, [token])
        return place

    add(list(range(len(choices))), 0, [])
    return found


@dataclass(order=True)
class _Job:
    """A partial choice to extend; the heap gives the highest bound first."""

    bound: float
    """Its log-probability so far, negated."""
    segment: int
    path: list[int] = field(compare=False)
    """Slots of the segments before it."""


@dataclass
class _Question:
    """Where the search of one prompt stands."""

    heap: list[_Job] = field(default_factory=list)
    best: tuple[float, int] = (float("-inf"), 0)
    """Score of the best whole choice and its number, negated so that the first of equals wins."""
    used: int = 0
    """Slots taken beyond the prompt."""

    def open(self) -> bool:
        """Return whether a partial choice may still win."""
        return bool(self.heap) and -self.heap[0].bound > self.best[0]

    def read(self, segment: Segment, score: float, path: list[int], lp: dict[int, float]) -> None:
        """Take in what follows an evaluated segment."""
        for token, choice in segment.whole.items():
            self.best = max(self.best, (score + lp[token], -choice))
        for token, number in segment.partial.items():
            heapq.heappush(self.heap, _Job(-(score + lp[token]), number, list(path)))


class _Tokens:
    """One step of a search: tokens of all running prompts, padded to the same number."""

    def __init__(self, rows: int, width: int, used: int, store: Store) -> None:
        shape = (rows, width)
        self.prompt_slots, self.stem = store.prompt_slots, store.stem_depth
        self.tokens = np.zeros(shape, np.int64)
        self.slots = np.full(shape, store.capacity - 1)  # padding writes where nobody looks
        self.depth = np.full(shape, self.stem)
        self.allowed = np.zeros((*shape, used), bool)
        self.allowed[:, :, 0] = True  # padding sees something, so that no softmax is empty
        self.at = [0] * rows

    def add(self, row: int, token: int, slot: int, path: Sequence[int]) -> None:
        """Put one token behind the slots of its path."""
        at, own = self.at[row], self.prompt_slots[row]
        self.tokens[row, at], self.slots[row, at] = token, slot
        self.depth[row, at] = self.stem + own + len(path)
        self.allowed[row, at, 0] = own > 0
        self.allowed[row, at, :own] = True
        self.allowed[row, at, [*path, slot]] = True
        self.at[row] += 1

    def announce(self, store: Store) -> torch.Tensor:
        """Tell the store and return the tokens."""
        device = store.slot_depth.device
        store.append(
            *(torch.from_numpy(x).to(device) for x in (self.slots, self.depth, self.allowed))
        )
        return torch.from_numpy(self.tokens).to(device)


class _Search:
    """Best-first search for many prompts at once."""

    def __init__(self, lm: LM, segments: list[Segment], limit: int) -> None:
        self.lm, self.segments, self.limit = lm, segments, limit
        tokens = {t for s in segments for t in (*s.tokens, *s.whole, *s.partial)}
        self.vocabulary = sorted(tokens)
        self.column = {token: i for i, token in enumerate(self.vocabulary)}
        self.most = max(1, min(16, STEP_LOGITS // (len(lm.sites.embedding_weight) * 4)))

    def run(self, prompts: Sequence[Sequence[int]]) -> list[int | None]:
        """Return the best choice of each prompt, None where the limit was passed."""
        lm = self.lm
        tree = build([Paths(prompt, []) for prompt in prompts])
        layout = lm.plan(tree)
        layout.keep = {}
        logits = self._logprobs(lm.logits(tree, tree.ends, layout))
        store = after_prompts(tree, layout, self.most + 1)
        questions = [_Question() for _ in prompts]
        for question, row in zip(questions, logits, strict=True):
            question.read(self.segments[0], 0.0, [], self._named(row))
        running = list(questions)
        while True:
            still = [n for n, q in enumerate(running) if q.open() and q.used <= self.limit]
            if not still:
                return [None if q.open() else -q.best[1] for q in questions]
            if len(still) < len(running):
                running = [running[number] for number in still]
                store.retain(torch.tensor(still, device=lm.device))
            self._step(running, store)

    def _step(self, running: Sequence[_Question], store: Store) -> None:
        """Evaluate the most promising segments of every running question."""
        work = [self._pop(question) for question in running]
        width = max(sum(len(self.segments[job.segment].tokens) for job in jobs) for jobs in work)
        used = width + max(
            prompt + question.used
            for prompt, question in zip(store.prompt_slots, running, strict=True)
        )
        store.reserve(used + 1)
        step = _Tokens(len(running), width, used, store)
        for row, (question, jobs) in enumerate(zip(running, work, strict=True)):
            for job in jobs:
                for token in self.segments[job.segment].tokens:
                    slot = store.prompt_slots[row] + question.used
                    step.add(row, token, slot, job.path)
                    job.path.append(slot)
                    question.used += 1
        logprobs = self._logprobs(self.lm.step(step.announce(store), store))
        for question, jobs, rows in zip(running, work, logprobs, strict=True):
            at = 0
            for job in jobs:
                segment, score = self.segments[job.segment], -job.bound
                for following in segment.tokens[1:]:
                    score += float(rows[at][self.column[following]])
                    at += 1
                question.read(segment, score, job.path, self._named(rows[at]))
                at += 1

    def _pop(self, question: _Question) -> list[_Job]:
        jobs: list[_Job] = []
        tokens = 0
        while question.open() and (not jobs or tokens < self.most):
            job = heapq.heappop(question.heap)
            tokens += len(self.segments[job.segment].tokens)
            jobs.append(job)
        return jobs

    def _logprobs(self, logits: torch.Tensor) -> Floats:
        """Return log-probabilities [..., U] of the U tokens that occur in choices."""
        wanted = torch.tensor(self.vocabulary, device=logits.device)
        found: Any = logits[..., wanted] - torch.logsumexp(logits, -1, keepdim=True)
        values: Floats = found.cpu().numpy()
        return values

    def _named(self, row: Floats) -> dict[int, float]:
        return dict(zip(self.vocabulary, row.tolist(), strict=True))
