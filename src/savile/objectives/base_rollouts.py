"""Objectives over answers that the policy writes itself, round by round, judged by a reward.

A round lets the policy answer prompts, scores the answers, turns scores into advantages (what each
objective states), and takes a few clipped steps on them before the next round is written.

Cost: each answer is written, read twice (policy, reference), scored, and trained on.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final, NamedTuple

import torch
from torch import Tensor

from savile.lm.generate import sample
from savile.lm.model import LM
from savile.lm.packing import packs
from savile.lm.rollouts import Rollout, roll_out, tree_of
from savile.objectives.base import Batch, Encoded, Objective, TrainingData, Written, drawn

STEPS_PER_ROUND: Final = 4
"""Optimizer steps of one pass over the answers of a round, at least."""
MOST_RATIO: Final = 20.0
"""Nats a log-ratio may have before it is held there, so that no exponential overflows."""
NOTHING: Final = torch.zeros(0)


class Judged(NamedTuple):
    """An answer of T tokens and what it teaches."""

    rollout: Rollout
    advantages: Tensor
    """How much better than expected each token was, float32 [T]; or the whole answer, [1]."""
    values: Tensor = NOTHING
    """What a value function expected before each token, [T]; empty where there is none."""
    returns: Tensor = NOTHING
    """What it should have expected, [T]."""


class Taught(NamedTuple):
    """What the answers of a tree teach, end to end."""

    old: Tensor
    """log p under the policy that wrote them, [M]."""
    reference: Tensor
    """log p under the reference, [M]; empty where none was asked."""
    advantages: Tensor
    values: Tensor
    returns: Tensor


@dataclass(frozen=True, kw_only=True)
class RolloutBatch(Batch):
    """Answers in one tree, their tokens in its targets' order."""

    judged: Sequence[Judged]
    told: Mapping[str, float]
    """What the round came to."""

    def taught(self, device: torch.device) -> Taught:
        """Return the tensors of all answers on a device."""
        rows = ((j.rollout.logprobs, j.rollout.reference, *j[1:]) for j in self.judged)
        return Taught(*(torch.cat(column).to(device) for column in zip(*rows, strict=True)))

    def shares(self, **own: float) -> dict[str, float]:
        """Return the tree's shares of what is logged."""
        return {name: self.share * value for name, value in {**self.told, **own}.items()}


class Round(NamedTuple):
    """The answers of a round, those to one prompt side by side."""

    rollouts: list[Rollout]
    scores: Tensor
    """Their rewards, float32 [n]."""
    kls: Tensor
    """log p - log p_ref of each, in nats, [n]; empty where no reference was asked."""

    @property
    def told(self) -> dict[str, float]:
        """Its means."""
        kl = {"kl": float(self.kls.mean())} if len(self.kls) else {}
        return {"reward": float(self.scores.mean()), **kl}


class FromRollouts(Objective):
    """An objective over the policy's own answers: it states `batches` from `rounds` and `steps`,
    and its loss."""

    compares: ClassVar[bool] = True
    uses_reference: ClassVar[bool] = True
    rate_factor: ClassVar[float] = 0.1
    by_tokens: ClassVar[bool] = False
    """Whether an answer counts by its tokens in a step's loss; else each counts the same."""

    def items(self, lm: LM, data: TrainingData) -> Sequence[Encoded]:
        """Return the rows: their prompts are answered, their answers may define the reward."""
        return data.rows

    def trees(self, items: Sequence[Judged], tokens_per_tree: int) -> list[RolloutBatch]:
        """Pack judged answers."""

        def count(judged: Sequence[Judged]) -> int:
            return sum(len(j.rollout.answer) if self.by_tokens else 1 for j in judged)

        return [
            RolloutBatch(
                tree=tree_of([judged.rollout for judged in pack]),
                examples=len(pack),
                share=count(pack) / count(items),
                judged=pack,
                told={},
            )
            for pack in packs(items, tokens_per_tree, lambda judged: judged.rollout.paths)
        ]

    def steps(
        self,
        judged: Sequence[Judged],
        told: Mapping[str, float],
        data: TrainingData,
        rng: random.Random,
    ) -> Iterator[Sequence[RolloutBatch]]:
        """Yield the optimizer steps of one pass over a round, in random order."""
        order = rng.sample(judged, len(judged))
        for start in range(0, len(order), data.batch_size):
            step = self.trees(order[start : start + data.batch_size], data.tokens_per_tree)
            yield [replace(batch, told=told) for batch in step]

    @torch.no_grad()
    def judge(self, lm: LM, data: TrainingData, items: Sequence[Encoded]) -> tuple[None, float]:
        """Return minus the mean reward of one sampled answer to each dev row."""
        prompts = [item.prompt for item in items]
        answers = sample(lm, prompts, data.max_new_tokens, seeds=range(len(items)))
        scores = scored(data, map(Written, range(len(items)), answers))
        return None, -float(scores.mean())


def rounds(
    lm: LM,
    data: TrainingData,
    items: Sequence[Encoded],
    rng: random.Random,
    *,
    group: int = 1,
    temperature: float = 1.0,
    refers: bool = True,
) -> Iterator[Round]:
    """Yield rounds of answers without end: whole groups, and whole optimizer steps.

    Args:
        lm: the policy, as it is when a round begins.
        data: sizes, reward and reference.
        items: the rows whose prompts are answered.
        rng: draws the rows and the answers.
        group: answers to each prompt.
        temperature: of the drawing.
        refers: whether the reference reads the answers too.
    """
    whole = math.lcm(data.batch_size, group)
    n = math.ceil(STEPS_PER_ROUND * data.batch_size / whole) * whole // group
    prompts = [item.prompt for item in items]
    for chosen in drawn(range(len(items)), n, rng):
        rows = [row for row in chosen for _ in range(group)]
        found = roll_out(
            lm,
            prompts,
            rows,
            seeds=[rng.getrandbits(48) for _ in rows],
            max_new_tokens=data.max_new_tokens,
            tokens_per_tree=data.tokens_per_tree,
            reference=data.reference if refers else None,
            temperature=temperature,
        )
        scores = scored(data, (Written(one.row, one.answer) for one in found))
        yield Round(found, scores, torch.tensor([one.kl for one in found if refers]))


def scored(data: TrainingData, written: Iterable[Written]) -> Tensor:
    """Return what the data's reward says of answers, float32 [n].

    Raises:
        ValueError: the data have no reward.
    """
    if data.reward is None:
        raise ValueError("this objective needs a reward")
    return torch.tensor(data.reward(list(written)), dtype=torch.float32)


def clipped_policy_loss(logprobs: Tensor, old: Tensor, advantage: Tensor, eps: float) -> Tensor:
    """Return the clipped surrogate, negated, of each token (or whole answer), [M].

    Source: Schulman et al. 2017, arXiv 1707.06347, equation 7.

    Args:
        logprobs: log p under the policy, [M].
        old: log p under the policy that wrote them, [M].
        advantage: how much better than expected each was, [M].
        eps: how far a ratio of probabilities earns anything.
    """
    ratio = (logprobs - old).clamp(-MOST_RATIO, MOST_RATIO).exp()
    return torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - eps, 1 + eps))
