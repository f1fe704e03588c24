"""The best of many choices after each prompt, without scoring every choice.

    score(y) = scale(y) (log p(y | x) + bias(y))       scale 1, bias 0: the likeliest choice

The choices form a trie. A partial choice's log-probability bounds those of all its completions from
above, and with their highest bias and scale their scores (`Rule.bound`), so the best partial is
extended first and the search ends when no partial beats the best whole choice: the argmax is
exactly that of scoring everything (A* with an admissible bound). Runs of forced tokens are one
segment, evaluated at once; prompts search side by side over a shared stem.

Source: Hart, Nilsson, Raphael 1968 (A*); for label tries the idea is common in constrained decoding
(De Cao et al. 2021, arXiv 2010.00904).

Cost: a few segments for a model that knows, up to the whole trie for one that does not, or where
biases differ by more than what the prompt says.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from savile.lm.model import LM
from savile.lm.store import Store, after_prompts
from savile.lm.tree import Paths, build
from savile.lm.trie import Bias, Rule, Segment, segments_of

Floats = npt.NDArray[np.float32]
SMALL_TRIE: Final = 24
"""Below this many inner tokens one tree with all choices is cheaper than searching."""
WORTH_SEARCHING: Final = 0.25
"""Share of the trie's tokens after which a search is given up (a step of it costs about twice)."""
STEP_LOGITS: Final = 1 << 21
"""Most logits of one prompt and step; bounds the tokens of a step for wide vocabularies."""


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
        self.segments = segments_of(choices)
        inner = sum(len(segment.tokens) for segment in self.segments)
        self.limit = int(WORTH_SEARCHING * inner)
        self.small = inner <= SMALL_TRIE
        self.searches = lm.uses_tree
        """Whether searching has paid so far."""

    @torch.no_grad()
    def best(
        self, prompts: Sequence[Sequence[int]], biases: Sequence[Bias] | None = None
    ) -> list[int]:
        """Return for each prompt the number of the choice with the highest score.

        A search that has opened a good part of the trie is given up for scoring all of it, and a
        model that makes most searches end so is not searched again.

        Args:
            prompts: token ids.
            biases: for each prompt the bias of each choice; none without it.
        """
        biases = biases or [[0.0] * len(self.choices)] * len(prompts)
        found: list[int | None] = [None] * len(prompts)
        if self.small:
            return self._together(prompts, biases)
        if self.searches:
            found = _Search(self.lm, self.segments, self.limit).run(prompts, self._rules(biases))
            self.searches = found.count(None) <= len(found) / 2
        return [  # one prompt a tree: a stem with short branches
            self._together([prompt], [bias])[0] if number is None else number
            for prompt, bias, number in zip(prompts, biases, found, strict=True)
        ]

    @torch.no_grad()
    def scores(self, prompts: Sequence[Sequence[int]], biases: Sequence[Bias]) -> torch.Tensor:
        """Return the score of every choice after every prompt [P, C], float32, from one tree."""
        tree = build([Paths(prompt, self.choices) for prompt in prompts])
        logprobs_PC = self.lm.sequence_logprobs(tree).view(len(prompts), len(self.choices))
        bias_PC, scale_C = logprobs_PC.new_tensor(biases), logprobs_PC.new_tensor(self.scale)
        return (logprobs_PC + bias_PC) * scale_C

    def _rules(self, biases: Sequence[Bias]) -> list[Rule]:
        """Return the rule of each prompt; most have the same list of biases."""
        known = {id(bias): bias for bias in biases}
        rules = {key: Rule(self.segments, bias, self.scale) for key, bias in known.items()}
        return [rules[id(bias)] for bias in biases]

    def _together(self, prompts: Sequence[Sequence[int]], biases: Sequence[Bias]) -> list[int]:
        return [int(number) for number in self.scores(prompts, biases).argmax(-1).tolist()]


@dataclass(order=True)
class _Job:
    """A partial choice to extend; the heap gives the highest bound first."""

    bound: float
    """The bound of its scores, negated."""
    segment: int
    logprob: float = field(compare=False)
    """Of the tokens so far."""
    path: list[int] = field(compare=False)
    """Slots of the segments before it."""


@dataclass
class _Question:
    """Where the search of one prompt stands."""

    rule: Rule
    heap: list[_Job] = field(default_factory=list)
    best: tuple[float, int] = (float("-inf"), 0)
    """Score of the best whole choice and its number, negated so that the first of equals wins."""
    used: int = 0
    """Slots taken beyond the prompt."""

    def open(self) -> bool:
        """Return whether a partial choice may still win."""
        return bool(self.heap) and -self.heap[0].bound > self.best[0]

    def read(self, segment: Segment, logprob: float, path: list[int], lp: dict[int, float]) -> None:
        """Take in what follows an evaluated segment."""
        for token, choice in segment.whole.items():
            self.best = max(self.best, (self.rule.score(choice, logprob + lp[token]), -choice))
        for token, number in segment.partial.items():
            so_far = logprob + lp[token]
            bound = self.rule.bound(number, so_far)
            heapq.heappush(self.heap, _Job(-bound, number, so_far, list(path)))


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

    def run(self, prompts: Sequence[Sequence[int]], rules: Sequence[Rule]) -> list[int | None]:
        """Return the best choice of each prompt, None where the limit was passed."""
        lm = self.lm
        tree = build([Paths(prompt, []) for prompt in prompts])
        layout = lm.plan(tree)
        layout.keep = {}
        logits = self._logprobs(lm.logits(tree, tree.ends, layout))
        store = after_prompts(tree, layout, self.most + 1)
        questions = [_Question(rule) for rule in rules]
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
                segment, logprob = self.segments[job.segment], job.logprob
                for following in segment.tokens[1:]:
                    logprob += float(rows[at][self.column[following]])
                    at += 1
                question.read(segment, logprob, job.path, self._named(rows[at]))
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
