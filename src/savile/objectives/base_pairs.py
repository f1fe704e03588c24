"""Objectives over preference pairs: each states how it measures an answer, and its formula.

The prompt of a pair is computed once for both answers, and the reference's log-probabilities once
for the whole training: before its first step the policy is the reference.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from savile.lm.model import LM
from savile.lm.packing import packs
from savile.lm.tree import Paths, build
from savile.objectives.base import Batch, Objective, TrainingData


class Pair(NamedTuple):
    """A preference, and what the reference thinks of its answers."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    reference: tuple[float, float] = (0.0, 0.0)
    """log p of chosen and rejected under the reference; 0 where it is not referred to."""


@dataclass(frozen=True, kw_only=True)
class PairBatch(Batch):
    """Pairs in one tree; a pair's answers are neighboring sequences of it."""

    pairs: Sequence[Pair]


class FromPairs(Objective):
    """An objective over (chosen, rejected): it states `formula`, the rest is here."""

    compares: ClassVar[bool] = True
    refers: ClassVar[bool] = True
    """Whether an answer is measured against the reference, as log p - log p_ref; else by log p."""
    per_token: ClassVar[bool] = False
    """Whether it is measured by the mean over its tokens, the end token included; else the sum."""

    @abstractmethod
    def formula(self, measures: Tensor) -> Tensor:
        """Return the loss of n pairs, [n], from the `measures` m of their answers, [n, 2]."""

    def measures(self, policy: Tensor, reference: Tensor, tokens: Tensor) -> Tensor:
        """Return m of chosen and rejected answers, in nats, [n, 2]: more is preferred more.

        Args:
            policy: log-probabilities of whole answers, [n, 2]: chosen, rejected.
            reference: the same under the reference.
            tokens: lengths of the answers, end token included, [n, 2].
        """
        moved = policy - reference if self.refers else policy
        return moved / tokens if self.per_token else moved

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
                tree=build([pair_paths(pair) for pair in pack]),
                examples=len(pack),
                share=len(pack) / len(items),
                pairs=pack,
            )
            for pack in packs(items, tokens_per_tree, pair_paths)
        ]

    def loss(self, lm: LM, batch: PairBatch) -> tuple[Tensor, dict[str, float]]:
        """Return the share of the pairs' mean; how often and by how much chosen answers measure
        more, and the mean log p of whole chosen answers."""
        policy = lm.sequence_logprobs(batch.tree).view(-1, 2)
        reference = policy.new_tensor([pair.reference for pair in batch.pairs])
        tokens = policy.new_tensor([(len(p.chosen), len(p.rejected)) for p in batch.pairs])
        measures = self.measures(policy, reference, tokens)
        ahead = (measures[:, 0] - measures[:, 1]).detach()
        told = {
            "pair_accuracy": (ahead > 0).float().mean(),
            "margin": ahead.mean(),
            "chosen_logp": policy.detach()[:, 0].mean(),
        }
        loss = batch.share * self.formula(measures).mean()
        return loss, {name: batch.share * float(value) for name, value in told.items()}


def pairs_of(data: TrainingData) -> list[Pair]:
    """Return the preferences that have both answers."""
    return [
        Pair(row.prompt, row.chosen, row.rejected)
        for row in data.preferences
        if row.chosen is not None and row.rejected is not None
    ]


def pair_paths(pair: Pair) -> Paths:
    """Return a pair as the prompt and its two completions."""
    return Paths(pair.prompt, [pair.chosen, pair.rejected])
