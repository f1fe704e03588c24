"""Supervised fine-tuning: the mean negative log-likelihood of the answers' tokens.

    L = - sum_i w_i log p(y_i | x, y_<i) / sum_i w_i        over answer tokens, end of turn included

Source: the language-model loss of Radford et al. 2018 on (instruction, answer) rows as in Ouyang
et al. 2022, arXiv 2203.02155, section 3.5. Prompt tokens carry no weight; the mean runs over the
tokens of the whole optimizer step, not of each row (as transformers' Trainer and TRL do).

Cost: one forward and backward pass over the tree; logits at answer tokens alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from savile.lm.model import LM
from savile.lm.tree import Paths, build
from savile.objectives.base import Batch, Encoded, Objective, TrainingData


def negative_log_likelihood(logprobs_M: Tensor, weights_M: Tensor) -> Tensor:
    """Return the weighted mean of -log p over M target tokens, a scalar."""
    return -(logprobs_M * weights_M).sum() / weights_M.sum()


@final
@dataclass(frozen=True, kw_only=True)
class SFT(Objective):
    """Learn the wanted answers by heart and rule."""

    needs: ClassVar[tuple[str, ...]] = ("pairs", "parameters")
    gives: ClassVar[tuple[str, ...]] = ("policy",)

    def batches(self, data: TrainingData, lm: LM, rng: random.Random) -> Iterator[Sequence[Batch]]:
        """Yield shuffled steps of `data.batch_size` rows, each cut into trees by the token
        budget."""
        order: list[int] = []
        while True:
            while len(order) < data.batch_size:
                epoch = list(range(len(data.rows)))
                rng.shuffle(epoch)
                order += epoch
            step, order = order[: data.batch_size], order[data.batch_size :]
            yield trees([data.rows[i] for i in step], data.tokens_per_tree)

    def loss(self, lm: LM, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Return the share-weighted mean over the tree's answer tokens."""
        logprobs = lm.logprobs(batch.tree)
        weights = torch.from_numpy(batch.tree.targets.weight).to(logprobs.device)
        return batch.share * negative_log_likelihood(logprobs, weights), {}


def trees(rows: Sequence[Encoded], budget: int) -> list[Batch]:
    """Pack rows into trees of at most `budget` separate tokens (one row may exceed it alone)."""
    ordered = sorted(rows, key=lambda row: len(row.prompt) + len(row.completion))
    packs: list[list[Encoded]] = [[]]
    used = 0
    for row in ordered:
        size = len(row.prompt) + len(row.completion)
        if packs[-1] and used + size > budget:
            packs.append([])
            used = 0
        packs[-1].append(row)
        used += size
    total = sum(len(row.completion) for row in rows)
    return [
        Batch(
            tree=build([Paths(row.prompt, [row.completion]) for row in pack]),
            examples=len(pack),
            share=sum(len(row.completion) for row in pack) / total,
        )
        for pack in packs
    ]
