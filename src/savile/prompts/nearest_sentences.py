"""Few-shot with the k training examples nearest to the question by a sentence encoder.

    shown(x) = the k rows t of train with the highest cos(e(x), e(t)), the nearest last

Source: Liu et al. 2022, arXiv 2101.06804 (KATE); the encoder: Reimers and Gurevych 2019, arXiv
1908.10084 (sentence-transformers, the extra `sentences`).

What differs from KATE: the encoder's mean over train is taken off, as in `nearest_states`.
Works on a base behind an API too: the encoder runs here.
Cost: one pass of the encoder over train, once a run, and one over each question; it is loaded once
for each group of questions that is looked up. Else that of `nearest`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, final

from annotated_types import Ge, Le, MinLen

from savile.prompts.base import Frame, Model, Prompt, pool_of
from savile.retrieval import Retriever
from savile.types import Example


@final
@dataclass(frozen=True, kw_only=True)
class NearestSentences(Prompt):
    """Show the `k` training examples whose meaning is nearest to that of each question."""

    needs: ClassVar[tuple[str, ...]] = ("pairs",)
    occupies: ClassVar[tuple[str, ...]] = ("examples",)
    encoders: ClassVar[tuple[str, ...]] = ("encoder",)

    k: Annotated[int, Ge(1), Le(1024)] = 8
    """How many demonstrations are shown."""
    order: Literal["nearest_last", "nearest_first"] = "nearest_last"
    """Where the nearest one stands."""
    encoder: Annotated[str, MinLen(1)] = "sentence-transformers/all-MiniLM-L6-v2"
    """A sentence-transformers model: a folder (a relative one starts at the spec's), or a name that
    is in the local cache."""

    def fit(
        self,
        frame: Frame,
        train: Sequence[Example],
        rng: random.Random,
        model: Model | None = None,
    ) -> Frame:
        """Return the frame that looks for demonstrations in `train`, by the encoder's vectors."""
        found = Retriever(pool=pool_of(train), k=self.k, order=self.order, embedder=self.encoder)
        return replace(frame, retriever=found)
