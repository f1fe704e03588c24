"""Distillation by logits: the student learns the teacher's odds for every token, not its choice.

    L = (1 - a) * NLL(y) + a * tau^2 * KL(softmax(z_T / tau) || softmax(z_S / tau))

Source: Hinton, Vinyals, Dean 2015, arXiv 1503.02531, section 2; token by token for sequences: Kim &
Rush 2016, arXiv 1606.07947, section 3.1. Teacher and student need the same vocabulary; each reads
its own prompt, so the teacher may see demonstrations that the student learns to do without.

Differs from the papers: the KL runs over the teacher's `top_k` likeliest tokens, both
distributions renormalized there, so that what the teacher says is computed once and kept small.

Cost: one forward pass of the teacher over the rows before the first step, top_k numbers a token
kept; then that of SFT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple, final

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from savile.lm.model import LM
from savile.lm.packing import packs
from savile.lm.tree import Paths, build
from savile.objectives.base import Batch, Encoded, Objective, TrainingData


def soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return tau^2 * KL(teacher || student) of each position, [M], over the same K tokens.

    Args:
        student: logits of the kept tokens, [M, K].
        teacher: logits of the kept tokens, [M, K].
        temperature: tau.
    """
    wanted = (teacher / temperature).log_softmax(-1)
    found = (student / temperature).log_softmax(-1)
    return temperature**2 * (wanted.exp() * (wanted - found)).sum(-1)


class Taught(NamedTuple):
    """A row with what the teacher says of its answer, T tokens."""

    row: Encoded
    tokens: Tensor
    """The teacher's likeliest tokens at each position, int64 [T, K]."""
    logits: Tensor
    """Their log-probabilities, float32 [T, K]."""


@dataclass(frozen=True, kw_only=True)
class TaughtBatch(Batch):
    """Rows of one tree, in the order of its targets."""

    taught: Sequence[Taught]


@final
@dataclass(frozen=True, kw_only=True)
class Distill(Objective):
    """Learn a larger model's odds."""

    needs: ClassVar[tuple[str, ...]] = ("pairs", "teacher", "parameters")
    gives: ClassVar[tuple[str, ...]] = ("policy",)

    alpha: Annotated[float, Ge(0), Le(1)] = 0.9
    """Weight of the teacher against the wanted answers."""
    temperature: Annotated[float, Gt(0), Le(100)] = 2.0
    """Softens both distributions, so that unlikely tokens teach too (tau)."""
    top_k: Annotated[int, Ge(2), Le(4096)] = 64
    """Tokens kept of each of the teacher's distributions."""

    def items(self, lm: LM, data: TrainingData) -> list[Taught]:
        """Return the rows that show their whole target with the teacher's odds, asked once."""
        if data.teacher is None:
            raise ValueError("this objective needs a teacher")
        said = data.teacher.odds(data.rows, self.top_k)
        both = zip(data.rows, said, strict=True)
        return [Taught(row, *odds) for row, odds in both if row.completion]

    def trees(self, items: Sequence[Taught], tokens_per_tree: int) -> list[TaughtBatch]:
        """Pack rows; a tree's share is its part of the answer tokens."""
        total = sum(len(one.row.completion) for one in items)
        return [
            TaughtBatch(
                tree=build([_paths(one) for one in pack]),
                examples=len(pack),
                share=sum(len(one.row.completion) for one in pack) / total,
                taught=pack,
            )
            for pack in packs(items, tokens_per_tree, _paths)
        ]

    def loss(self, lm: LM, batch: TaughtBatch) -> tuple[Tensor, dict[str, float]]:
        """Return the share of the tokens' mean."""
        targets = batch.tree.targets
        logits = lm.logits(batch.tree, targets.source)
        wanted = torch.from_numpy(targets.token).to(logits.device)
        hard = torch.nn.functional.cross_entropy(logits, wanted)
        tokens = torch.cat([one.tokens for one in batch.taught]).to(logits.device)
        teacher = torch.cat([one.logits for one in batch.taught]).to(logits.device)
        soft = soft_loss(logits.gather(-1, tokens), teacher, self.temperature).mean()
        loss = batch.share * ((1 - self.alpha) * hard + self.alpha * soft)
        return loss, {"soft_loss": batch.share * float(soft.detach())}


def _paths(one: Taught) -> Paths:
    return Paths(one.row.prompt, [one.row.completion])
