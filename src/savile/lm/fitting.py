"""A base as prompts ask it while they are fitted (`prompts.base.Model`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import final

import torch

from savile.lm.base import Asked, Base, Chat
from savile.lm.generate import rows_of_trees
from savile.lm.local import Local
from savile.lm.tree import Paths, build


@final
class Fitting:
    """Asks a base, and counts what it was asked."""

    def __init__(self, base: Base, on_answers: Callable[[], None] = lambda: None) -> None:
        """Ask `base`.

        Args:
            base: what answers, with nothing attached.
            on_answers: called as answers arrive; an exception it raises ends the work.
        """
        self.base = base
        self._answered, self._read = 0, set[str]()
        self._on_answers = on_answers

    @property
    def asked(self) -> int:
        """Rows whose answers were asked for, or read to be scored."""
        return self._answered + len(self._read)

    def answers(self, chats: Sequence[Chat], *, max_new_tokens: int) -> list[str]:
        """Return the greedy answer to each chat."""
        self._answered += len(chats)
        found = [""] * len(chats)
        with closing(self.base.answers(chats, Asked(max_new_tokens=max_new_tokens))) as groups:
            for group in groups:
                for row, answer in group:
                    found[row] = answer.text
                self._on_answers()
        return found

    @torch.no_grad()
    def logprobs(self, chats: Sequence[Chat], answers: Sequence[str]) -> list[float]:
        """Return the log-probability of each answer and its end after its chat; minus infinity
        where they exceed the context."""
        assert isinstance(self.base, Local), "likelihoods were asked of a base without weights"
        lm = self.base.lm
        self._read.update(turn.content for chat in chats for turn in chat if turn.role == "user")
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
