"""Few-shot with the k training examples nearest to the question in the base's own hidden states.

    v(x)     = mean over the tokens of x of the last layer's states, minus the mean of v over train
    shown(x) = the k rows t of train with the highest cos(v(x), v(t)), the nearest last

Source: Liu et al. 2022, arXiv 2101.06804 (KATE: nearest by the vectors of an encoder). The mean is
taken off because the states of a language model share one large direction (Mu and Viswanath 2018,
arXiv 1702.01417, step 1).

What differs from KATE: the base is its own encoder, without what is tuned on it, so a tuned
technique keeps its neighbors while it learns. The states come in from above
(`ladder/neighbors.py`): a prompt file knows no model.
Cost: one forward pass over train, once a run, and one over each question; else that of `nearest`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, final

from annotated_types import Ge, Le

from savile.prompts.base import Frame, Model, Prompt, pool_of
from savile.retrieval import BASE, Retriever
from savile.types import Example


@final
@dataclass(frozen=True, kw_only=True)
class NearestStates(Prompt):
    """Show the `k` training examples whose states are nearest to those of each question."""

    needs: ClassVar[tuple[str, ...]] = ("pairs", "weights")
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
        """Return the frame that looks for demonstrations in `train`, by the base's states."""
        found = Retriever(pool=pool_of(train), k=self.k, order=self.order, embedder=BASE)
        return replace(frame, retriever=found)
