"""REINFORCE leave-one-out: an answer is judged against the mean reward of the others to its prompt.

    R_i = r(x, y_i) - beta * log(p(y_i|x) / p_ref(y_i|x))
    A_i = R_i - sum_{j != i} R_j / (k - 1)                      over the k answers of one prompt
    L = mean_i max(-A_i rho_i, -A_i clip(rho_i, 1 - eps, 1 + eps)),    rho_i = p(y_i) / p_old(y_i)

Source: Ahmadian, Cremer, Gallé, Fadaee, Kreutzer, Pietquin, Üstün, Hooker 2024, arXiv 2402.14740,
sections 2 and 3: the whole answer is one action, the KL is part of its reward; the baseline: Kool,
van Hoof, Welling 2019.

Differs from the paper, which takes one step on each batch of answers: a round has a few, so the
ratio of the later ones is clipped, as in TRL. At rho = 1 the gradient is the paper's.

Cost: k answers to a prompt share its tokens in one tree; each is written, read twice and trained on
once. No value head.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from savile.lm.model import LM
from savile.objectives.base import Encoded, TrainingData
from savile.objectives.base_rollouts import (
    FromRollouts,
    Judged,
    RolloutBatch,
    clipped_policy_loss,
    rounds,
)


def leave_one_out(rewards: Tensor) -> Tensor:
    """Return rewards [prompts, k] minus the mean of the other k - 1 of their prompt."""
    k = rewards.shape[-1]
    return (rewards - rewards.mean(-1, keepdim=True)) * (k / (k - 1))


@final
@dataclass(frozen=True, kw_only=True)
class RLOO(FromRollouts):
    """Learn from several own answers to a prompt, each judged against the others."""

    needs: ClassVar[tuple[str, ...]] = ("pairs", "reward", "parameters")
    gives: ClassVar[tuple[str, ...]] = ("policy",)

    num_generations: Annotated[int, Ge(2), Le(64)] = 4
    """Answers to each prompt (k; the paper has 2 and 4)."""
    beta: Annotated[float, Ge(0)] = 0.05
    """Weight of the KL to the reference in the reward."""
    epsilon: Annotated[float, Gt(0), Le(1)] = 0.2
    """How far the odds of an answer may move in one round."""
    temperature: Annotated[float, Gt(0), Le(2)] = 1.0
    """Temperature the answers are drawn with."""

    def batches(
        self, lm: LM, data: TrainingData, items: Sequence[Encoded], rng: random.Random
    ) -> Iterator[Sequence[RolloutBatch]]:
        """Yield the steps of one round after the other."""
        group, temperature = self.num_generations, self.temperature
        for made in rounds(lm, data, items, rng, group=group, temperature=temperature):
            ahead = leave_one_out((made.scores - self.beta * made.kls).view(-1, group)).view(-1, 1)
            judged = [Judged(one, a) for one, a in zip(made.rollouts, ahead, strict=True)]
            yield from self.steps(judged, made.told, data, rng)

    def loss(self, lm: LM, batch: RolloutBatch) -> tuple[Tensor, dict[str, float]]:
        """Return the share of the answers' mean."""
        policy = lm.sequence_logprobs(batch.tree)
        advantages = batch.taught(policy.device).advantages
        old = torch.stack([one.rollout.logprobs.sum() for one in batch.judged]).to(policy.device)
        losses = clipped_policy_loss(policy, old, advantages, self.epsilon)
        return batch.share * losses.mean(), batch.shares()
