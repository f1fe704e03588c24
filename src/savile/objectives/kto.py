"""KTO: learn from single answers that are wanted or not, by the human value function of losses.

    m(y) = log p(y|x) - log p_ref(y|x),    z0 = max(0, mean over the batch of m(y'|x)), no gradient
    L = lambda_D (1 - sigmoid(beta (m - z0)))  wanted,  lambda_U (1 - sigmoid(beta (z0 - m)))  not

Source: Ethayarajh, Xu, Muennighoff, Jurafsky, Kiela 2024, arXiv 2402.01306, equation 8; z0 from
answers y' of other rows (section 4.1), here of the next other prompt, fixed for the whole training.

Cost: one tree of prompt and answer, forward and backward, and a forward pass over the mismatched
answers for z0; the reference costs one forward pass over both before the first step.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, NamedTuple, final

import torch
from annotated_types import Gt
from torch import Tensor

from savile.lm.model import LM
from savile.lm.packing import packs
from savile.lm.tree import Paths, build
from savile.objectives.base import Batch, Objective, TrainingData, drawn


class Judged(NamedTuple):
    """An answer with its label, and another row's answer to the same prompt."""

    prompt: list[int]
    answer: list[int]
    wanted: bool
    other: list[int]
    """The answer of another row, for z0."""
    reference: tuple[float, float] = (0.0, 0.0)
    """log p of answer and other under the reference."""


@dataclass(frozen=True, kw_only=True)
class JudgedBatch(Batch):
    """Answers of one tree, and the step's z0."""

    rows: Sequence[Judged]
    z0: float = 0.0


def kahneman_tversky(moved: Tensor, wanted: Tensor, z0: float, beta: float) -> Tensor:
    """Return equation 8 without its weights, [n].

    Args:
        moved: log p - log p_ref of n answers, [n].
        wanted: which of them are desirable, bool [n].
        z0: the reference point, in nats.
        beta: steepness of the value function.
    """
    sign = torch.where(wanted, 1.0, -1.0)
    return 1 - torch.sigmoid(beta * sign * (moved - z0))


@final
@dataclass(frozen=True, kw_only=True)
class KTO(Objective):
    """Learn from thumbs up and thumbs down; pairs count as one of each."""

    needs: ClassVar[tuple[str, ...]] = ("feedback", "parameters")
    gives: ClassVar[tuple[str, ...]] = ("policy",)
    compares: ClassVar[bool] = True
    rate_factor: ClassVar[float] = 0.1

    beta: Annotated[float, Gt(0)] = 0.1
    """How strongly the policy is held at the reference."""
    desirable_weight: Annotated[float, Gt(0)] = 1.0
    """Weight of wanted answers; balance it against their share of the rows."""
    undesirable_weight: Annotated[float, Gt(0)] = 1.0
    """Weight of unwanted answers."""

    def items(self, lm: LM, data: TrainingData) -> list[Judged]:
        """Return every judged answer with what the reference thinks of it."""
        flat = [
            (row.prompt, answer, wanted)
            for row in data.preferences
            for answer, wanted in ((row.chosen, True), (row.rejected, False))
            if answer is not None
        ]
        rows = [
            Judged(prompt, answer, wanted, _other(flat, n))
            for n, (prompt, answer, wanted) in enumerate(flat)
        ]
        known: dict[int, tuple[float, float]] = {}
        place = {id(row): number for number, row in enumerate(rows)}
        with torch.no_grad():
            for pack in packs(rows, data.tokens_per_tree, _paths):
                own, other = _logprobs(lm, pack)
                for row, *both in zip(pack, own.tolist(), other.tolist(), strict=True):
                    known[place[id(row)]] = (both[0], both[1])
        return [row._replace(reference=known[n]) for n, row in enumerate(rows)]

    def trees(self, items: Sequence[Judged], tokens_per_tree: int) -> list[JudgedBatch]:
        """Pack answers; each counts the same."""
        return [
            JudgedBatch(
                tree=build([Paths(row.prompt, [row.answer]) for row in pack]),
                examples=len(pack),
                share=len(pack) / len(items),
                rows=pack,
            )
            for pack in packs(items, tokens_per_tree, _paths)
        ]

    def batches(
        self, lm: LM, data: TrainingData, items: Sequence[Judged], rng: random.Random
    ) -> Iterator[Sequence[JudgedBatch]]:
        """Yield steps whose trees know the step's z0."""
        for step in drawn(items, data.batch_size, rng):
            yield _at_z0(lm, self.trees(step, data.tokens_per_tree))

    def loss(self, lm: LM, batch: JudgedBatch) -> tuple[Tensor, dict[str, float]]:
        """Return the share of the rows' weighted mean."""
        policy = lm.sequence_logprobs(batch.tree)
        reference = policy.new_tensor([row.reference[0] for row in batch.rows])
        wanted = torch.tensor([row.wanted for row in batch.rows], device=policy.device)
        weight = torch.where(wanted, self.desirable_weight, self.undesirable_weight)
        losses = weight * kahneman_tversky(policy - reference, wanted, batch.z0, self.beta)
        return batch.share * losses.mean(), {"z0": batch.share * batch.z0}

    @torch.no_grad()
    def judge(self, lm: LM, data: TrainingData, items: Sequence[Judged]) -> tuple[None, float]:
        """Return the loss on dev answers; the task's metric scores them."""
        step = _at_z0(lm, self.trees(items, data.tokens_per_tree))
        return None, sum(float(self.loss(lm, batch)[0]) for batch in step)


def _other(flat: Sequence[tuple[list[int], list[int], bool]], n: int) -> list[int]:
    """Return an answer to another prompt than the n-th: the second that follows (a pair's chosen
    answer meets a chosen one), or the first after it whose prompt differs; its own if none does."""
    prompt, own, _ = flat[n]
    following = (flat[(n + step) % len(flat)] for step in range(2, len(flat) + 2))
    return next((answer for asked, answer, _ in following if asked != prompt), own)


def _paths(row: Judged) -> Paths:
    return Paths(row.prompt, [row.answer, row.other])


def _logprobs(lm: LM, rows: Sequence[Judged]) -> tuple[Tensor, Tensor]:
    """Return log p of the rows' answers and of the others', [n] each."""
    tree = build([_paths(row) for row in rows])
    both = lm.sequence_logprobs(tree).view(-1, 2)
    return both[:, 0], both[:, 1]


@torch.no_grad()
def _at_z0(lm: LM, step: Sequence[JudgedBatch]) -> list[JudgedBatch]:
    """Return a step's trees with the z0 of all its rows."""
    total, n = 0.0, 0
    for batch in step:
        tree = build([Paths(row.prompt, [row.other]) for row in batch.rows])
        reference = sum(row.reference[1] for row in batch.rows)
        total += float(lm.sequence_logprobs(tree).sum()) - reference
        n += len(batch.rows)
    return [replace(batch, z0=max(total / n, 0.0)) for batch in step]
