"""Group relative policy optimization: an answer is good that beats the others to the same question.

    A_i = (r_i - mean(r)) / std(r)                              over the G answers of one prompt
    L = mean_i mean_t [ max(-A_i rho_t, -A_i clip(rho_t, 1 - eps, 1 + eps)) + beta * k_t ]
    rho_t = p(y_t) / p_old(y_t),    k_t = p_ref/p - log(p_ref/p) - 1

Source: Shao et al. 2024, arXiv 2402.03300, equations 3 and 4; the estimator k_t of the KL: Schulman
2020, "Approximating KL divergence".

Cost: G answers to a prompt share its tokens in one tree; each is written, read twice (once where
beta is 0) and trained on once. No value head.
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
    MOST_RATIO,
    FromRollouts,
    Judged,
    RolloutBatch,
    clipped_policy_loss,
    rounds,
)


def group_advantages(rewards: Tensor) -> Tensor:
    """Return rewards [groups, G] against the mean of their group, in its standard deviations.

    A group whose answers are all worth the same has advantage 0: it teaches nothing.
    """
    centered = rewards - rewards.mean(-1, keepdim=True)
    return centered / (rewards.std(-1, keepdim=True) + 1e-4)


@final
@dataclass(frozen=True, kw_only=True)
class GRPO(FromRollouts):
    """Learn from the better of several own answers, judged by a reward."""

    needs: ClassVar[tuple[str, ...]] = ("pairs", "reward", "parameters")
    gives: ClassVar[tuple[str, ...]] = ("policy",)

    num_generations: Annotated[int, Ge(2), Le(64)] = 8
    """Answers to each prompt (G)."""
    epsilon: Annotated[float, Gt(0), Le(1)] = 0.2
    """How far the odds of a token may move in one round."""
    beta: Annotated[float, Ge(0)] = 0.04
    """Weight of the KL to the reference; at 0 no reference is asked."""
    temperature: Annotated[float, Gt(0), Le(2)] = 1.0
    """Temperature the answers are drawn with."""

    def batches(
        self, lm: LM, data: TrainingData, items: Sequence[Encoded], rng: random.Random
    ) -> Iterator[Sequence[RolloutBatch]]:
        """Yield the steps of one round after the other."""
        group, temperature, refers = self.num_generations, self.temperature, self.beta > 0
        for made in rounds(
            lm, data, items, rng, group=group, temperature=temperature, refers=refers
        ):
            ahead = group_advantages(made.scores.view(-1, group)).flatten()
            judged = [
                Judged(one, advantage.expand(len(one.answer)))
                for one, advantage in zip(made.rollouts, ahead, strict=True)
            ]
            yield from self.steps(judged, made.told, data, rng)

    def loss(self, lm: LM, batch: RolloutBatch) -> tuple[Tensor, dict[str, float]]:
        """Return the share of the answers' mean of means."""
        logprobs = lm.logprobs(batch.tree)
        taught = batch.taught(logprobs.device)
        tokens = clipped_policy_loss(logprobs, taught.old, taught.advantages, self.epsilon)
        if self.beta > 0:
            apart = (taught.reference - logprobs).clamp(-MOST_RATIO, MOST_RATIO)
            tokens = tokens + self.beta * (apart.exp() - apart - 1)
        lengths = torch.tensor([len(one.rollout.answer) for one in batch.judged])
        weight = (1 / lengths).repeat_interleave(lengths).to(logprobs.device)
        return batch.share * (weight * tokens).sum() / len(batch.judged), batch.shares()
