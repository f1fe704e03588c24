"""Supervised fine-tuning: the mean negative log-likelihood of the answers' tokens.

    L = - sum_i w_i log p(y_i | x, y_<i) / sum_i w_i        over answer tokens, end of turn included

Source: the language-model loss of Radford et al. 2018 on (instruction, answer) rows as in Ouyang
et al. 2022, arXiv 2203.02155, section 3.5. Prompt tokens carry no weight; the mean runs over the
tokens of the whole optimizer step, not of each row (as transformers' Trainer and TRL do).

Cost: one forward and backward pass over the tree; logits at answer tokens alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from savile.lm.model import LM
from savile.objectives.base import Batch, Encoded, Objective, TrainingData, trees_of_rows


def negative_log_likelihood(logprobs_M: Tensor, weights_M: Tensor) -> Tensor:
    """Return the weighted mean of -log p over M target tokens, a scalar."""
    return -(logprobs_M * weights_M).sum() / weights_M.sum()


@final
@dataclass(frozen=True, kw_only=True)
class SFT(Objective):
    """Learn the wanted answers by heart and rule."""

    needs: ClassVar[tuple[str, ...]] = ("pairs", "parameters")
    gives: ClassVar[tuple[str, ...]] = ("policy",)

    def items(self, lm: LM, data: TrainingData) -> Sequence[Encoded]:
        """Return the rows that show their whole target."""
        return [row for row in data.rows if row.completion]

    def trees(self, items: Sequence[Encoded], tokens_per_tree: int) -> list[Batch]:
        """Pack rows; a tree's share is its part of the answer tokens."""
        return trees_of_rows(items, tokens_per_tree)

    def loss(self, lm: LM, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Return the share-weighted mean over the tree's answer tokens."""
        logprobs = lm.logprobs(batch.tree)
        weights = torch.from_numpy(batch.tree.targets.weight).to(logprobs.device)
        return batch.share * negative_log_likelihood(logprobs, weights), {}
