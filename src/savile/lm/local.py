"""A base whose weights are here: many chats are answered together, over the prefix they share.

A closed set is scored over the trie of its labels: the label with the highest log-likelihood of all
its tokens and the end of turn wins, so no answer is unparseable and a label that is a prefix of
another is no special case. Everything else is greedy generation. Deltas that are attached to the
model while it answers take part.

Cost: one forward pass over the tree of the prompts, and one a written token or trie segment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, final

from savile.lm.base import Answer, Answers, Asked, Base, Chat
from savile.lm.choose import Chooser
from savile.lm.generate import greedy, rows_of_trees
from savile.lm.model import LM

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
        answer = _Labels(self.lm, asked.labels) if asked.labels else _Texts(self.lm, asked)
        for rows in rows_of_trees(prompts):
            yield list(zip(rows, answer([prompts[row] for row in rows]), strict=True))

    def tally(self) -> Mapping[str, Any]:
        """Return nothing: the meter measures what a model here takes."""
        return {}


class _Labels:
    """Chooses from labels."""

    def __init__(self, lm: LM, labels: tuple[str, ...]) -> None:
        self.lm, self.labels = lm, labels
        self.choices = [lm.encode_completion(label) for label in labels]
        self.chooser = Chooser(lm, self.choices)

    def __call__(self, prompts: Sequence[Sequence[int]]) -> list[Answer]:
        """Return the likeliest label of each prompt."""
        best = self.chooser.best(prompts)
        return [
            Answer(
                text=self.labels[number],
                label=self.labels[number],
                prompt_tokens=len(prompt) + self.lm.root_tokens,
                completion_tokens=len(self.choices[number]),
            )
            for prompt, number in zip(prompts, best, strict=True)
        ]


class _Texts:
    """Writes answers greedily."""

    def __init__(self, lm: LM, asked: Asked) -> None:
        self.lm, self.limit = lm, asked.max_new_tokens

    def __call__(self, prompts: Sequence[Sequence[int]]) -> list[Answer]:
        """Return the greedy answer of each prompt."""
        lm = self.lm
        room = lm.context - lm.root_tokens
        limits = [min(self.limit, max(room - len(prompt), 1)) for prompt in prompts]
        written: list[list[int]] = [[] for _ in prompts]
        for shared in set(limits):  # one, but near the end of the context: no row limits another
            rows = [row for row, own in enumerate(limits) if own == shared]
            for row, ids in zip(rows, greedy(lm, [prompts[r] for r in rows], shared), strict=True):
                written[row] = ids
        return [
            Answer(
                text=lm.template.decode(ids),
                label=None,
                prompt_tokens=len(prompt) + lm.root_tokens,
                completion_tokens=len(ids),
            )
            for prompt, ids in zip(prompts, written, strict=True)
        ]
