"""Few-shot with the k training examples nearest to the question, by the words they share (BM25).

    shown(x) = the k rows t of train with the highest BM25(x, t), the nearest last

Source: Rubin et al. 2022, arXiv 2112.08633 (BM25 as retriever of demonstrations); Liu et al. 2022,
arXiv 2101.06804; the formula stands in `retrieval.py`.

A row that is trained on under this prompt never sees itself, and no question sees a row of the same
text, so training and service show the same kind of neighbors.
Cost: no training; k questions and answers in every prompt, which requests do not share with each
other (only the instruction before them is computed once); the whole of train is the artifact.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, final

from annotated_types import Ge, Le

from savile.prompts.base import Frame, Model, Prompt, pool_of
from savile.retrieval import Retriever
from savile.types import Example


@final
@dataclass(frozen=True, kw_only=True)
class Nearest(Prompt):
    """Show the `k` training examples nearest to each question."""

    needs: ClassVar[tuple[str, ...]] = ("pairs",)
    occupies: ClassVar[tuple[str, ...]] = ("examples",)

    k: Annotated[int, Ge(1), Le(1024)] = 8
    """How many demonstrations are shown."""
    order: Literal["nearest_last", "nearest_first"] = "nearest_last"
    """Where the nearest one stands."""

    def fit(
        self,
        frame: Frame,
        train: Sequence[Example],
        rng: random.Random,
        model: Model | None = None,
    ) -> Frame:
        """Return the frame that looks for demonstrations in `train`."""
        found = Retriever(pool=pool_of(train), k=self.k, order=self.order)
        return replace(frame, retriever=found)
