"""Few-shot: k worked examples before the question (one-shot is k = 1).

Source: Brown et al. 2020, arXiv 2005.14165.

`balanced` deals the examples round-robin over the
answers that occur in `train`, so that every class of a closed set is shown before one repeats.
Cost: no training; k questions and answers in every prompt (shared by all requests of a batch).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Annotated, ClassVar, Literal, final

from annotated_types import Ge, Le

from savile.prompts.base import Frame, Model, Prompt
from savile.types import Example


@final
@dataclass(frozen=True, kw_only=True)
class FewShot(Prompt):
    """Show `k` training examples, chosen once per seed."""

    needs: ClassVar[tuple[str, ...]] = ("pairs",)
    occupies: ClassVar[tuple[str, ...]] = ("examples",)
    stochastic: ClassVar[bool] = True

    k: Annotated[int, Ge(1), Le(1024)] = 8
    """How many demonstrations are shown."""
    selection: Literal["balanced", "random"] = "balanced"
    """`balanced` over the answers of a closed set, or `random`."""

    def fit(
        self,
        frame: Frame,
        train: Sequence[Example],
        rng: random.Random,
        model: Model | None = None,
    ) -> Frame:
        """Return the frame with `k` demonstrations drawn from `train` with `rng`."""
        pool = sorted(train, key=lambda example: example.id)
        rng.shuffle(pool)
        if self.selection == "balanced" and frame.labels:
            pool = round_robin(pool)
        chosen = pool[: self.k]
        rng.shuffle(chosen)
        return replace(frame, demonstrations=tuple(chosen))


def round_robin(pool: Sequence[Example]) -> list[Example]:
    """Reorder `pool` so that each answer occurs once before any occurs twice."""
    by_answer: dict[str, list[Example]] = defaultdict(list)
    for example in pool:
        by_answer[example.output].append(example)
    return [e for row in zip_longest(*by_answer.values()) for e in row if e is not None]
