"""Self-consistency: n answers are drawn, and the answer that most of them reach is taken.

    answer = argmax_a  sum over i of 1[parse(y_i) = a],   y_1 .. y_n ~ p(y | x)^(1/temperature)

Source: Wang et al. 2022, arXiv 2203.11171, section 2 (the unweighted vote, their best).

What differs from the paper: no cut to the 40 likeliest tokens (theirs has none for GPT-3 either),
and a tie goes to the answer that was drawn first. Sample i depends on the seed, the prompt and i
alone: those of n = 3 are the first three of n = 9, so scores over n are paired. The answers of a
closed set are drawn by the likelihoods of its labels when no steps are written; then n of them tell
hardly more than the likeliest label, for there are no paths to agree on.
Cost: n answers; their prompt is computed once, at an endpoint too where it gives several at a time.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, final

from annotated_types import Ge, Gt, Le

from savile.prompts.base import Frame, Model, Prompt
from savile.types import Example


@final
@dataclass(frozen=True, kw_only=True)
class SelfConsistency(Prompt):
    """Draw `n` answers and take the one that most of them give."""

    stochastic: ClassVar[bool] = True
    decides: ClassVar[tuple[str, ...]] = ("temperature", "top_p", "seed")

    n: Annotated[int, Ge(1), Le(128)] = 5
    """How many answers are drawn."""
    temperature: Annotated[float, Gt(0.0), Le(2.0)] = 0.7
    """Divides the logits; at 0 all samples would be equal (0.7: the paper's for PaLM and GPT-3)."""
    top_p: Annotated[float, Gt(0.0), Le(1.0)] = 1.0
    """Draw from the fewest tokens whose probabilities reach it; 1 draws from all."""

    def fit(
        self,
        frame: Frame,
        train: Sequence[Example],
        rng: random.Random,
        model: Model | None = None,
    ) -> Frame:
        """Return the frame that asks for `n` samples; the seed does not depend on `n`."""
        return replace(
            frame,
            samples=self.n,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=rng.getrandbits(31),
        )
