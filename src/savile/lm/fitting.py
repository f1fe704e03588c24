"""A base as prompts ask it while they are fitted (`prompts.base.Model`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import final

import torch

from savile.lm.base import Answer, Asked, Base, Chat
from savile.lm.choose import Chooser
from savile.lm.generate import rows_of_trees
from savile.lm.local import Local
from savile.lm.model import LM
from savile.lm.neutral import Neutral
from savile.lm.tree import Paths, build
from savile.prompts.base import Frame, Proposals
from savile.types import Example


@final
class Fitting:
    """Asks a base, and counts what it was asked."""

    def __init__(
        self,
        base: Base,
        on_answers: Callable[[], None] = lambda: None,
        proposer: Base | None = None,
    ) -> None:
        """Ask `base`.

        Args:
            base: what answers, with nothing attached.
            on_answers: called as answers arrive; an exception it raises ends the work.
            proposer: what writes instructions; None: the base itself.
        """
        self.base, self._proposer = base, proposer or base
        self._answered, self._read = 0, set[str]()
        self._on_answers = on_answers

    @property
    def asked(self) -> int:
        """Rows whose answers were asked for, or read to be scored."""
        return self._answered + len(self._read)

    def answers(
        self, chats: Sequence[Chat], *, max_new_tokens: int, stop: Sequence[str] = ()
    ) -> list[str]:
        """Return the greedy answer to each chat."""
        self._answered += len(chats)
        found = [""] * len(chats)
        asked = Asked(max_new_tokens=max_new_tokens, stop=tuple(stop))
        with closing(self.base.answers(chats, asked)) as groups:
            for group in groups:
                for row, answer in group:
                    found[row] = answer.text
                self._on_answers()
        return found

    def proposals(
        self, chat: Chat, n: int, *, shown: Sequence[Example], seed: int, max_new_tokens: int
    ) -> Proposals:
        """Return `n` answers of the model that proposes, drawn at temperature 1."""
        asked = Asked(max_new_tokens=max_new_tokens, n=n, temperature=1.0, seed=seed)
        self._read.update(row.input for row in shown)
        found: list[Answer] = []
        with closing(self._proposer.answers([chat], asked)) as groups:
            for group in groups:
                found += [answer for _, answer in group]
                self._on_answers()
        paid = [answer.usd for answer in found if answer.usd is not None]
        usd = sum(paid) if len(paid) == len(found) > 0 else None
        return Proposals([answer.text for answer in found], self._proposer.name, usd)

    def logprobs(self, chats: Sequence[Chat], answers: Sequence[str]) -> list[float]:
        """Return the log-probability of each answer and its end after its chat; minus infinity
        where they exceed the context."""
        self._read.update(turn.content for chat in chats for turn in chat if turn.role == "user")
        return self._logprobs(chats, answers)

    def probabilities(self, frame: Frame, rows: Sequence[Example]) -> list[float]:
        """Return how likely the wanted answer of each row is under a frame: one that the frame
        scores among its labels, else a written one, per token; 0 beyond the context."""
        self._read.update(row.input for row in (*rows, *frame.demonstrations))
        if frame.closed:
            return self._among_labels(frame, rows)
        answers = [frame.target(row) for row in rows]
        found = self._logprobs([frame.messages(row) for row in rows], answers)
        lengths = [len(self._lm.encode_completion(answer)) for answer in answers]
        return [math.exp(value / n) for value, n in zip(found, lengths, strict=True)]

    @property
    def _lm(self) -> LM:
        assert isinstance(self.base, Local), "likelihoods were asked of a base without weights"
        return self.base.lm

    def _among_labels(self, frame: Frame, rows: Sequence[Example]) -> list[float]:
        lm = self._lm
        choices = [lm.encode_completion(word) for word in frame.label_words]
        chooser = Chooser(lm, choices, per_token=frame.length_normalized)
        neutral, room = Neutral(lm, choices), lm.context - max(map(len, choices))
        prompts = [lm.encode_prompt(frame.messages(row)) for row in rows]
        fits = [n for n, prompt in enumerate(prompts) if len(prompt) <= room]
        found = [0.0] * len(rows)
        for some in rows_of_trees([prompts[n] for n in fits], len(choices)):
            own = [fits[n] for n in some]
            biases = [neutral.bias(frame.neutral(rows[n])) for n in own]
            odds = chooser.scores([prompts[n] for n in own], biases).softmax(-1).tolist()
            for n, chances in zip(own, odds, strict=True):
                wanted = [frame.labels.index(label) for label in rows[n].accepted]
                found[n] = sum(chances[label] for label in wanted)
            self._on_answers()
        return found

    @torch.no_grad()
    def _logprobs(self, chats: Sequence[Chat], answers: Sequence[str]) -> list[float]:
        lm = self._lm
        both = [
            Paths(lm.encode_prompt(chat), [lm.encode_completion(answer)])
            for chat, answer in zip(chats, answers, strict=True)
        ]
        found = [-math.inf] * len(both)
        fits = [
            n
            for n, one in enumerate(both)
            if len(one.prompt) + len(one.completions[0]) <= lm.context
        ]
        for rows in rows_of_trees([both[row].prompt for row in fits]):
            values = lm.sequence_logprobs(build([both[fits[row]] for row in rows])).tolist()
            for row, value in zip(rows, values, strict=True):
                found[fits[row]] = value
            self._on_answers()
        return found
