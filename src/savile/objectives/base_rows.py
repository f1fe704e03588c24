"""Objectives over rows with an answer to learn: the formula of supervised fine-tuning, which serves
SFT, answers that a teacher wrote, and what is trained several times and merged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from savile.lm.model import LM
from savile.lm.packing import packs
from savile.lm.tree import Paths, build
from savile.objectives.base import Batch, Encoded, Objective, TrainingData


def negative_log_likelihood(logprobs_M: Tensor, weights_M: Tensor) -> Tensor:
    """Return the weighted mean of -log p over M target tokens, a scalar."""
    return -(logprobs_M * weights_M).sum() / weights_M.sum()


class FromRows(Objective):
    """An objective that minimizes the mean negative log-likelihood of the answers' tokens."""

    def items(self, lm: LM, data: TrainingData) -> Sequence[Encoded]:
        """Return the rows that show their whole target."""
        return [row for row in data.rows if row.completion]

    def trees(self, items: Sequence[Encoded], tokens_per_tree: int) -> list[Batch]:
        """Pack rows; a tree's share is its part of the answer tokens."""
        total = sum(len(row.completion) for row in items)
        return [
            Batch(
                tree=build([_paths(row) for row in pack]),
                examples=len(pack),
                share=sum(len(row.completion) for row in pack) / total,
            )
            for pack in packs(items, tokens_per_tree, _paths)
        ]

    def loss(self, lm: LM, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Return the share-weighted mean over the tree's answer tokens."""
        logprobs = lm.logprobs(batch.tree)
        weights = torch.from_numpy(batch.tree.targets.weight).to(logprobs.device)
        return batch.share * negative_log_likelihood(logprobs, weights), {}


def _paths(row: Encoded) -> Paths:
    return Paths(row.prompt, [row.completion])
