"""A base whose weights are here: many chats are answered together, over the prefix they share.

A closed set is scored over the trie of its labels: the label with the highest log-likelihood of all
its tokens and the end of turn wins, so no answer is unparseable and a label that is a prefix of
another is no special case. Calibrated labels are scored against what they score without a question.
Samples of labels are drawn by their scores. Everything else is generation, greedy or drawn. Deltas
that are attached to the model while it answers take part. A constraint refuses tokens of written
answers. A tree for which memory runs out is answered in parts of half as many rows, down to one:
the answers are the same, since none depends on its neighbors.

Cost: one forward pass over the tree of the prompts, and one a written token or trie segment. The
samples of a prompt share its pass; of a closed set they take no more than one.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple, final

from savile.lm import memory
from savile.lm.base import Answer, Answers, Asked, Base, Chat, before, seed_of
from savile.lm.choose import Chooser
from savile.lm.constrained import Grammar, Masks
from savile.lm.generate import drawn, greedy, rows_of_trees, sample, without_end
from savile.lm.model import LM
from savile.lm.neutral import Neutral
from savile.prompts.base_constraint import Constraint

PLAIN_BATCHES: Final = (
    "computed on plain padded batches, since this base cannot take trees: the same answers, "
    "more seconds and memory"
)


@final
class Local(Base):
    """An `LM` that answers chats."""

    gives: ClassVar[frozenset[str]] = frozenset({"weights"})

    def __init__(self, lm: LM) -> None:
        """Answer with a loaded model."""
        self.lm = lm
        self.name = lm.name
        self.device = str(lm.device)
        self.context = lm.context
        self.note = None if lm.uses_tree else PLAIN_BATCHES
        self._grammars: dict[Constraint, Grammar] = {}

    @property
    def n_parameters(self) -> int:
        """Parameters of the base, tied ones once."""
        return self.lm.n_parameters

    def prompt_tokens(self, chat: Chat) -> int:
        """Return the tokens of a chat, virtual ones of a delta included."""
        return len(self.lm.encode_prompt(chat)) + self.lm.root_tokens

    def answer_tokens(self, text: str) -> int:
        """Return the tokens of an answer and the one that ends it."""
        return len(self.lm.encode_completion(text))

    def answers(self, chats: Sequence[Chat], asked: Asked) -> Answers:
        """Yield the answers of one tree after the other, prompts of like length together."""
        prompts = [self.lm.encode_prompt(chat) for chat in chats]
        answer = (
            _Labels(self.lm, asked)
            if asked.labels
            else _Texts(self.lm, asked, self._grammar_of(asked.constraint))
        )
        most = len(chats)
        for left in rows_of_trees(prompts, asked.n):
            while left:
                rows = left[:most]
                some = [
                    _Prompt(
                        prompts[row],
                        _seeds(chats[row], asked),
                        asked.neutral[row] if asked.neutral else (),
                    )
                    for row in rows
                ]
                found = memory.tried(partial(answer, some)) if len(rows) > 1 else answer(some)
                if found is None:
                    most = len(rows) // 2
                    self.lm.work.rows_at_once = min(self.lm.work.rows_at_once or most, most)
                    continue
                left = left[most:]
                yield [(row, one) for row, own in zip(rows, found, strict=True) for one in own]

    def _grammar_of(self, constraint: Constraint | None) -> Grammar | None:
        """Return the grammar of a constraint, read once: it takes a second."""
        if constraint is not None and constraint not in self._grammars:
            self._grammars[constraint] = Grammar(self.lm, constraint)
        return None if constraint is None else self._grammars[constraint]

    def tally(self) -> Mapping[str, Any]:
        """Return how many rows were answered at once where memory ran out; what a model here takes
        else, the meter measures."""
        fewest, self.lm.work.rows_at_once = self.lm.work.rows_at_once, None
        return {} if fewest is None else {"rows_at_once": fewest}


class _Prompt(NamedTuple):
    """A chat as token ids, the seed of each of its samples, and its chats without content."""

    ids: list[int]
    seeds: list[int]
    neutral: tuple[Chat, ...]


def _seeds(chat: Chat, asked: Asked) -> list[int]:
    if not asked.temperature:
        return [0] * asked.n  # nothing is drawn, and a long chat takes a millisecond to hash
    return [seed_of(asked.seed, chat, sample) for sample in range(asked.n)]


class _Labels:
    """Chooses from labels."""

    def __init__(self, lm: LM, asked: Asked) -> None:
        self.lm, self.asked, self.labels = lm, asked, asked.labels
        self.choices = [lm.encode_completion(label) for label in self.labels]
        self.chooser = Chooser(lm, self.choices, per_token=asked.length_normalized)
        self.neutral = Neutral(lm, self.choices)

    def __call__(self, prompts: Sequence[_Prompt]) -> list[list[Answer]]:
        """Return the best label of each prompt, or labels drawn by their scores."""
        if self.asked.temperature:
            chosen = [self._drawn(prompt) for prompt in prompts]
        else:
            biases = [self.neutral.bias(prompt.neutral) for prompt in prompts]
            best = self.chooser.best([prompt.ids for prompt in prompts], biases)
            chosen = [[number] for number in best]
        return [
            [self._answer(prompt, at, number) for at, number in enumerate(numbers)]
            for prompt, numbers in zip(prompts, chosen, strict=True)
        ]

    def _drawn(self, prompt: _Prompt) -> list[int]:
        scores = self.chooser.scores([prompt.ids], [self.neutral.bias(prompt.neutral)])
        return drawn(
            scores.expand(self.asked.n, -1),
            [random.Random(seed).random() for seed in prompt.seeds],
            temperature=self.asked.temperature,
            top_p=self.asked.top_p,
        )

    def _answer(self, prompt: _Prompt, sample: int, number: int) -> Answer:
        return Answer(
            text=self.labels[number],
            label=self.labels[number],
            prompt_tokens=0 if sample else len(prompt.ids) + self.lm.root_tokens,
            completion_tokens=len(self.choices[number]),
        )


class _Texts:
    """Writes answers."""

    def __init__(self, lm: LM, asked: Asked, grammar: Grammar | None) -> None:
        self.lm, self.asked, self.grammar = lm, asked, grammar
        self.complete = self._holds_a_stop if asked.stop else None

    def __call__(self, prompts: Sequence[_Prompt]) -> list[list[Answer]]:
        """Return the greedy answer of each prompt, or its samples."""
        n, written = self.asked.n, self._ids(prompts)
        return [
            [self._answer(prompt, at, written[row * n + at]) for at in range(n)]
            for row, prompt in enumerate(prompts)
        ]

    def _ids(self, prompts: Sequence[_Prompt]) -> list[list[int]]:
        asked = self.asked
        ids = [prompt.ids for prompt in prompts for _ in prompt.seeds]
        if not asked.temperature:
            return greedy(self.lm, ids, asked.max_new_tokens, self.complete, self._masks(ids))
        written = sample(
            self.lm,
            ids,
            asked.max_new_tokens,
            seeds=[seed for prompt in prompts for seed in prompt.seeds],
            temperature=asked.temperature,
            top_p=asked.top_p,
            complete=self.complete,
            masks=self._masks(ids),
        )
        return [without_end(self.lm, own) for own in written]

    def _masks(self, prompts: Sequence[Sequence[int]]) -> Masks | None:
        return None if self.grammar is None else self.grammar.masks(len(prompts))

    def _answer(self, prompt: _Prompt, number: int, ids: Sequence[int]) -> Answer:
        return Answer(
            text=before(self.lm.template.written(ids), self.asked.stop).strip(),
            label=None,
            prompt_tokens=0 if number else len(prompt.ids) + self.lm.root_tokens,
            completion_tokens=len(ids),
        )

    def _holds_a_stop(self, ids: Sequence[int]) -> bool:
        """Decode all of it: what a token adds to a text depends on those before."""
        text = self.lm.template.written(ids)
        return any(one in text for one in self.asked.stop)
