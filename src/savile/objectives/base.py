"""What is minimized: an `Objective` turns data into steps of token trees, and a tree into a loss.

`batches` yields one optimizer step at a time, as one or more trees that each fit the token budget
(gradient accumulation); the losses of a step's trees add up to the loss of the whole step.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from savile.lm.model import LM
from savile.lm.tree import Tree


class Encoded(NamedTuple):
    """One training row as token ids."""

    prompt: list[int]
    completion: list[int]


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What an objective reads."""

    rows: Sequence[Encoded]
    batch_size: int
    """Examples of one optimizer step."""
    tokens_per_tree: int
    """Most separate tokens that go into one tree."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One tree of an optimizer step."""

    tree: Tree
    examples: int
    share: float
    """Its share of the step's loss; the shares of a step sum to 1."""


class Objective(ABC):
    """A training objective. Implementations are final, frozen, keyword-only dataclasses."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "use_attribute_docstrings": True,
    }
    needs: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def batches(self, data: TrainingData, lm: LM, rng: random.Random) -> Iterator[Sequence[Batch]]:
        """Yield optimizer steps without end, reshuffling after every pass over the rows."""

    @abstractmethod
    def loss(self, lm: LM, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Return the batch's share of the step's loss (scalar, differentiable) and what to log."""

    def modules(self) -> Sequence[nn.Module]:
        """Return heads that train along with the delta (value, reward); none for most."""
        return ()
