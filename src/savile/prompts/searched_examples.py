"""Few-shot with the best of n drawn sets of examples in their order, by the likelihood of answers.

    shown = argmax over draws S of  1/|H| * sum over (x, y) in H of log p(y | S, x)

H are training rows that no draw shows, the same for all draws; a draw is k other training rows in a
drawn order, so which rows and in what order are searched together.

Source: Perez, Kiela, Cho 2021, arXiv 2105.11447 (a prompt is chosen by the likelihood of held-in
labels, not by more data than few-shot may see); Lu et al. 2022, arXiv 2104.08786 (the order of the
same examples moves a score from chance to the best).

What differs: one split of train instead of Perez et al.'s folds, and dev has no part in it. The
likelihood of the draw that is taken is the best of n and too high; nothing is claimed from it, the
sealed test says what the search brought.
Cost: `draws` x `judged` rows are scored once a seed, all of a draw behind one shared prefix; then
that of few-shot. Every row that was drawn or judged counts as a label.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Annotated, ClassVar, final

from annotated_types import Ge, Le

from savile.prompts.base import Frame, Model, Prompt, pool_of
from savile.types import Example


@final
@dataclass(frozen=True, kw_only=True)
class SearchedExamples(Prompt):
    """Show the `k` training examples, of some drawn sets, under which held rows are likeliest."""

    needs: ClassVar[tuple[str, ...]] = ("pairs", "weights")
    occupies: ClassVar[tuple[str, ...]] = ("examples",)
    stochastic: ClassVar[bool] = True

    k: Annotated[int, Ge(1), Le(1024)] = 8
    """How many demonstrations are shown."""
    draws: Annotated[int, Ge(2), Le(4096)] = 16
    """Sets of examples, each in its order, that are tried."""
    judged: Annotated[int, Ge(1), Le(65536)] = 64
    """Training rows that judge a set; fewer where train has fewer beside `k`."""

    def fit(
        self,
        frame: Frame,
        train: Sequence[Example],
        rng: random.Random,
        model: Model | None = None,
    ) -> Frame:
        """Return the frame with the likeliest set of `k` rows of `train`."""
        frame = replace(frame, demonstrations=(), retriever=None)
        pool = list(pool_of(train))
        if model is None:
            longest = sorted(pool, key=lambda row: -len(frame.question(row) + frame.target(row)))
            return replace(frame, demonstrations=tuple(longest[: self.k]))
        rng.shuffle(pool)
        held = pool[: max(0, min(self.judged, len(pool) - self.k))]
        rest = pool[len(held) :]
        drawn = [
            replace(frame, demonstrations=tuple(rng.sample(rest, min(self.k, len(rest)))))
            for _ in range(self.draws)
        ]
        if not held:
            return drawn[0]
        return max(drawn, key=lambda one: likelihood(one, held, model))


def likelihood(frame: Frame, rows: Sequence[Example], model: Model) -> float:
    """Return the mean log-probability of the rows' answers under a frame, nats an answer."""
    chats = [frame.messages(row) for row in rows]
    return fmean(model.logprobs(chats, [frame.target(row) for row in rows]))
