"""A base as prompts ask it while they are fitted (`prompts.base.Model`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import final

from savile.lm.base import Asked, Base, Chat


@final
class Fitting:
    """Asks a base, and counts what it was asked."""

    def __init__(self, base: Base, on_answers: Callable[[], None] = lambda: None) -> None:
        """Ask `base`.

        Args:
            base: what answers, with nothing attached.
            on_answers: called as answers arrive; an exception it raises ends the work.
        """
        self.base, self.asked = base, 0
        self._on_answers = on_answers

    def answers(self, chats: Sequence[Chat], *, max_new_tokens: int) -> list[str]:
        """Return the greedy answer to each chat."""
        self.asked += len(chats)
        found = [""] * len(chats)
        with closing(self.base.answers(chats, Asked(max_new_tokens=max_new_tokens))) as groups:
            for group in groups:
                for row, answer in group:
                    found[row] = answer.text
                self._on_answers()
        return found
