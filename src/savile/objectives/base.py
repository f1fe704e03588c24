"""What is minimized: an `Objective` turns data into steps of token trees, and a tree into a loss.

`items` reads the data once (whatever never changes, such as a reference's log-probabilities, is
computed there), `trees` packs some of them into trees that each fit the token budget, `batches`
yields optimizer steps, `loss` is a tree's share of its step's loss: the losses of a step's trees
add up to the loss of the whole step. An objective that writes its own answers (PPO, GRPO) does so
in `batches`. A chain of objectives hands on what it `gives`: SFT a policy, `reward` a reward.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from savile.lm.model import LM
from savile.lm.tree import Tree

T = TypeVar("T")


class Encoded(NamedTuple):
    """One training row as token ids."""

    prompt: list[int]
    completion: list[int]
    """Empty when the row does not show the whole target, as one whose steps are missing."""


class Compared(NamedTuple):
    """One preference as token ids: two answers to a prompt, or one that is wanted or is not."""

    prompt: list[int]
    chosen: list[int] | None
    rejected: list[int] | None


class Written(NamedTuple):
    """An answer the model wrote to a row."""

    row: int
    """Number of the row in `TrainingData.rows`."""
    answer: list[int]
    """Token ids, with the end token when the model ended its answer."""


Reward = Callable[[Sequence[Written]], list[float]]
"""Scores written answers; higher is better."""


class Odds(NamedTuple):
    """The likeliest tokens at each of T positions of an answer."""

    tokens: Tensor
    """Token ids, int64 [T, K]."""
    logprobs: Tensor
    """Their log-probabilities, float32 [T, K]."""


class Teacher(ABC):
    """A model to learn from, asked about the rows of one `TrainingData`."""

    @abstractmethod
    def answers(self) -> list[str]:
        """Return the text a student should answer to every row, empty where it has none."""

    @abstractmethod
    def odds(self, rows: Sequence[Encoded], top_k: int) -> list[Odds]:
        """Return its `top_k` likeliest tokens at each position of the rows' completions."""


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What an objective reads: whichever of these the task has."""

    rows: Sequence[Encoded] = ()
    preferences: Sequence[Compared] = ()
    batch_size: int
    """Examples of one optimizer step."""
    tokens_per_tree: int
    """Most tokens of one tree."""
    steps: int = 1
    """Optimizer steps that are planned."""
    max_new_tokens: int = 128
    """Where an answer the model writes is cut."""
    reference: Callable[[], AbstractContextManager[None]] = nullcontext
    """Inside its context the model computes as it did when this objective began."""
    reward: Reward | None = None
    """What an answer is worth: a trained reward model, a metric, or the user's own function."""
    teacher: Teacher | None = None
    """A model to learn from."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One tree of an optimizer step; an objective may add what its loss needs."""

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
    rate_factor: ClassVar[float] = 1.0
    """Usual learning rate as a multiple of the delta's for SFT (measured: docs/log.md)."""
    head_rate: ClassVar[float] = 1e-3
    """Peak learning rate of the heads in `modules`."""

    compares: ClassVar[bool] = False
    """Whether the board says how its policy differs from the one it started from (win rate, KL)."""
    uses_reference: ClassVar[bool] = False
    """Whether it asks for `TrainingData.reference` after its first step."""

    @property
    def copies(self) -> int:
        """How often it is trained from the same start, each time with an equal part of its budget;
        what asks for more than one has no `modules` and says how states are `merged`."""
        return 1

    def merged(
        self, states: Sequence[Mapping[str, Tensor]], start: Mapping[str, Tensor], seed: int
    ) -> dict[str, Tensor]:
        """Return one state, of the start's names and shapes, made of those of several copies."""
        raise NotImplementedError(f"{type(self).__name__} merges nothing")

    @abstractmethod
    def items(self, lm: LM, data: TrainingData) -> Sequence[Any]:
        """Return the examples as this objective sees them, computed once."""

    @abstractmethod
    def trees(self, items: Sequence[Any], tokens_per_tree: int) -> Sequence[Batch]:
        """Pack examples into trees of at most `tokens_per_tree` tokens (one example may exceed it
        alone); their shares add up to 1."""

    @abstractmethod
    def loss(self, lm: LM, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """Return the batch's share of the step's loss (scalar, differentiable) and what to log
        (shares that add up to the step's value)."""

    def batches(
        self, lm: LM, data: TrainingData, items: Sequence[Any], rng: random.Random
    ) -> Iterator[Sequence[Batch]]:
        """Yield optimizer steps without end, reshuffling after every pass over the items."""
        for step in drawn(items, data.batch_size, rng):
            yield self.trees(step, data.tokens_per_tree)

    def modules(self, lm: LM) -> dict[str, nn.Module]:
        """Return heads that train along with the delta (value, reward); none for most."""
        return {}

    @torch.no_grad()
    def judge(self, lm: LM, data: TrainingData, items: Sequence[Any]) -> tuple[float | None, float]:
        """Return (score, loss) on dev items; a score of None leaves it to the task's metric."""
        found = [self.loss(lm, b) for b in self.trees(items, data.tokens_per_tree)]
        return None, sum(float(loss) for loss, _ in found)

    def rewards(self, lm: LM, rows: Sequence[Encoded], written: Sequence[Written]) -> list[float]:
        """Score answers to `rows` with the trained heads, for objectives that give `reward`."""
        raise NotImplementedError(f"{type(self).__name__} gives no reward")


def drawn(items: Sequence[T], n: int, rng: random.Random) -> Iterator[list[T]]:
    """Yield `n` items at a time from shuffled passes over them, without end."""
    order: list[int] = []
    while True:
        step = []
        for _ in range(n):
            order = order or rng.sample(range(len(items)), len(items))
            step.append(items[order.pop()])
        yield step
