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
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from savile.lm.model import LM
from savile.lm.tree import Paths, Tree, build

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
    """Most separate tokens that go into one tree."""
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

    @abstractmethod
    def items(self, lm: LM, data: TrainingData) -> Sequence[Any]:
        """Return the examples as this objective sees them, computed once."""

    @abstractmethod
    def trees(self, items: Sequence[Any], tokens_per_tree: int) -> Sequence[Batch]:
        """Pack examples into trees of at most `tokens_per_tree` separate tokens (one example may
        exceed it alone); their shares add up to 1."""

    @abstractmethod
    def loss(self, lm: LM, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """Return the batch's share of the step's loss (scalar, differentiable) and what to log
        (shares that add up to the step's value)."""

    def batches(
        self, lm: LM, data: TrainingData, items: Sequence[Any], rng: random.Random
    ) -> Iterator[Sequence[Batch]]:
        """Yield optimizer steps without end, reshuffling after every pass over the items."""
        order = Passes(len(items), rng)
        while True:
            step = [items[next(order)] for _ in range(data.batch_size)]
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


class Pair(NamedTuple):
    """A preference, and what the reference thinks of its answers."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    reference: tuple[float, float] = (0.0, 0.0)
    """log p of chosen and rejected under the reference."""


@dataclass(frozen=True, kw_only=True)
class PairBatch(Batch):
    """Pairs in one tree; a pair's answers are neighboring sequences of it."""

    pairs: Sequence[Pair]


class FromPairs(Objective):
    """An objective over (chosen, rejected): it states `formula`, the rest is here.

    The prompt of a pair is computed once for both answers, and the reference's log-probabilities
    once for the whole training: before its first step the policy is the reference.
    """

    needs: ClassVar[tuple[str, ...]] = ("preferences", "parameters")
    gives: ClassVar[tuple[str, ...]] = ("policy",)
    compares: ClassVar[bool] = True
    refers: ClassVar[bool] = True
    """Whether the formula looks at the reference."""

    @abstractmethod
    def formula(self, policy: Tensor, reference: Tensor, tokens: Tensor) -> Tensor:
        """Return the loss of n pairs, [n].

        Args:
            policy: log-probabilities of whole answers, [n, 2]: chosen, rejected.
            reference: the same under the reference; zeros where it is not referred to.
            tokens: lengths of the answers, end token included, [n, 2].
        """

    def items(self, lm: LM, data: TrainingData) -> list[Pair]:
        """Return the pairs with the reference's log-probabilities."""
        pairs = pairs_of(data)
        if not self.refers:
            return pairs
        known: dict[int, tuple[float, float]] = {}
        place = {id(pair): number for number, pair in enumerate(pairs)}
        with torch.no_grad():
            for batch in self.trees(pairs, data.tokens_per_tree):
                found = lm.sequence_logprobs(batch.tree).view(-1, 2).tolist()
                for pair, (chosen, rejected) in zip(batch.pairs, found, strict=True):
                    known[place[id(pair)]] = (chosen, rejected)
        return [pair._replace(reference=known[n]) for n, pair in enumerate(pairs)]

    def trees(self, items: Sequence[Pair], tokens_per_tree: int) -> list[PairBatch]:
        """Pack pairs; each counts the same."""
        return [
            PairBatch(
                tree=build([Paths(pair.prompt, [pair.chosen, pair.rejected]) for pair in pack]),
                examples=len(pack),
                share=len(pack) / len(items),
                pairs=pack,
            )
            for pack in packs(items, tokens_per_tree, pair_tokens)
        ]

    def loss(self, lm: LM, batch: PairBatch) -> tuple[Tensor, dict[str, float]]:
        """Return the share of the pairs' mean, and how the pairs stand."""
        policy = lm.sequence_logprobs(batch.tree).view(-1, 2)
        reference = policy.new_tensor([pair.reference for pair in batch.pairs])
        tokens = policy.new_tensor([(len(p.chosen), len(p.rejected)) for p in batch.pairs])
        losses = self.formula(policy, reference, tokens)
        moved = (policy - reference).detach()
        told = {
            "pair_accuracy": (moved[:, 0] > moved[:, 1]).float().mean(),
            "margin": (moved[:, 0] - moved[:, 1]).mean(),
            "chosen_logp": policy.detach()[:, 0].mean(),
        }
        return batch.share * losses.mean(), {k: batch.share * float(v) for k, v in told.items()}


def pairs_of(data: TrainingData) -> list[Pair]:
    """Return the preferences that have both answers."""
    return [
        Pair(row.prompt, row.chosen, row.rejected)
        for row in data.preferences
        if row.chosen is not None and row.rejected is not None
    ]


def pair_tokens(pair: Pair) -> int:
    """Return the tokens of a pair as separate sequences."""
    return 2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected)


class Passes:
    """Row numbers in shuffled passes over n rows, without end."""

    def __init__(self, n: int, rng: random.Random) -> None:
        self.n, self.rng = n, rng
        self.order: list[int] = []

    def __next__(self) -> int:
        if not self.order:
            self.order = self.rng.sample(range(self.n), self.n)
        return self.order.pop()


def scored(data: TrainingData, written: Sequence[tuple[int, list[int]]]) -> list[float]:
    """Return what the data's reward says of answers (row, token ids).

    Raises:
        ValueError: the data have no reward.
    """
    if data.reward is None:
        raise ValueError("this objective needs a reward")
    return data.reward([Written(row, answer) for row, answer in written])


def packs(items: Sequence[T], tokens_per_tree: int, size: Callable[[T], int]) -> list[list[T]]:
    """Divide items, shortest first, into packs of at most `tokens_per_tree` tokens by `size`."""
    found: list[list[T]] = []
    used = 0
    for item in sorted(items, key=size):
        own = size(item)
        if not found or used + own > tokens_per_tree:
            found.append([])
            used = 0
        found[-1].append(item)
        used += own
    return found


def trees_of_rows(rows: Sequence[Encoded], tokens_per_tree: int) -> list[Batch]:
    """Pack rows into trees; a tree's share is its part of the answer tokens."""
    total = sum(len(row.completion) for row in rows)
    return [
        Batch(
            tree=build([Paths(row.prompt, [row.completion]) for row in pack]),
            examples=len(pack),
            share=sum(len(row.completion) for row in pack) / total,
        )
        for pack in packs(rows, tokens_per_tree, lambda row: len(row[0]) + len(row[1]))
    ]
