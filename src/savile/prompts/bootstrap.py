"""Bootstrapped chain of thought: the base's own steps that reach the right answer are its examples.

    shown = the first k of (x, r, y), rows in a drawn order,  (r, a) ~ base(x + trigger),  a = y

Source: Zelikman et al. 2022, arXiv 2203.14465 (STaR: keep own rationales that reach the answer);
Zhang et al. 2022, arXiv 2210.03493 (Auto-CoT: rationales of zero-shot chain of thought as
demonstrations).

What differs: STaR trains on the rationales and gives a hint where one fails; Auto-CoT keeps wrong
ones and chooses questions by clusters. An answer is right when it equals an accepted one but for
case, spaces and a final period. So no worked steps are needed in the data. A base that reaches no
right answer by itself cannot be helped so, and the row says it.
Cost: an answer with steps to at most `tries` training rows, once a seed; then that of few-shot
chain of thought. The answers of all rows that were tried count as labels.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, final

from annotated_types import Ge, Le

from savile.errors import DataError, Problem
from savile.prompts.base import Frame, Model, Prompt, folded, pool_of
from savile.types import Example


@final
@dataclass(frozen=True, kw_only=True)
class Bootstrap(Prompt):
    """Show `k` training examples that the base worked out itself, and ask for steps."""

    needs: ClassVar[tuple[str, ...]] = ("pairs",)
    replaces: ClassVar[Mapping[str, str]] = {
        "pairs": "rationales",
        "preferences": "reasoned_preferences",
        "feedback": "reasoned_feedback",
        "labels": "scored_labels",
        "json_schema": "answers_alone",
        "regex": "answers_alone",
    }
    occupies: ClassVar[tuple[str, ...]] = ("examples",)
    stochastic: ClassVar[bool] = True

    k: Annotated[int, Ge(1), Le(256)] = 4
    """How many demonstrations are shown; fewer where fewer are found."""
    tries: Annotated[int, Ge(1), Le(65536)] = 64
    """Training rows that the base is asked at most."""
    max_new_tokens: Annotated[int, Ge(1), Le(65536)] = 256
    """Where its steps are cut."""

    def asks(self, n_train: int) -> int:
        """Return the rows it asks at most."""
        return min(self.tries, n_train)

    def fit(
        self,
        frame: Frame,
        train: Sequence[Example],
        rng: random.Random,
        model: Model | None = None,
    ) -> Frame:
        """Return the frame with up to `k` rows that the base solved, and its steps.

        Raises:
            DataError: it solved none.
        """
        frame = replace(frame, reasoning=True, demonstrations=(), retriever=None)
        pool = list(pool_of(train))
        rng.shuffle(pool)
        if model is None:
            longest = "x" * self.max_new_tokens
            shown = [replace(row, rationale=longest) for row in pool[: self.k]]
            return replace(frame, demonstrations=tuple(shown))
        tried = pool[: self.tries]
        found: list[Example] = []
        for worked in self._worked(frame, tried, model):
            found += worked
            if len(found) >= self.k:
                break
        if not found:
            what = f"the base solved none of {len(tried)} training rows by steps of its own"
            fix = "Give worked steps (data.rationale), or a base that can"
            raise DataError(Problem(what=what, fix=fix))
        return replace(frame, demonstrations=tuple(found[: self.k]))

    def _worked(
        self, frame: Frame, rows: Sequence[Example], model: Model
    ) -> Iterator[list[Example]]:
        """Yield the rows that the base solves with its steps, twice `k` asked at a time."""
        together = 2 * self.k
        for start in range(0, len(rows), together):
            asked = rows[start : start + together]
            chats = [frame.messages(row) for row in asked]
            texts = model.answers(chats, max_new_tokens=self.max_new_tokens, stop=frame.stop)
            both = [(row, *frame.read(text)) for row, text in zip(asked, texts, strict=True)]
            yield [
                replace(row, rationale=steps)
                for row, steps, answer in both
                if steps and answer and folded(answer) in map(folded, row.accepted)
            ]
