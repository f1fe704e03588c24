"""Group relative policy optimization: an answer is good that beats the others to the same question.

    A_i = (r_i - mean(r)) / std(r)                              over the G answers of one prompt
    L = mean_i mean_t [ max(-A_i rho_t, -A_i clip(rho_t, 1 - eps, 1 + eps)) + beta * k_t ]
    rho_t = p(y_t) / p_old(y_t),    k_t = p_ref/p - log(p_ref/p) - 1

Source: Shao et al. 2024, arXiv 2402.03300, equations 3 and 4; the estimator k_t of the KL: Schulman
2020, "Approximating KL divergence".

Cost: G answers to a prompt share its tokens in one tree; each is written, read twice and trained on
once. No value head.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, NamedTuple, final

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from savile.lm.generate import sample
from savile.lm.model import LM
from savile.lm.rollouts import Rollout, roll_out, tree_of
from savile.objectives.base import Batch, Encoded, Objective, Passes, TrainingData, packs, scored

STEPS_PER_ROUND: Final = 4
"""Optimizer steps of one round of rollouts, at least."""
MOST_RATIO: Final = 20.0
"""Nats a token's log-ratio may have before it is held there, so that no exponential overflows."""


def group_advantages(rewards: Tensor) -> Tensor:
    """Return rewards [groups, G] against the mean of their group, in its standard deviations.

    A group whose answers are all worth the same has advantage 0: it teaches nothing.
    """
    centered = rewards - rewards.mean(-1, keepdim=True)
    return centered / (rewards.std(-1, keepdim=True) + 1e-4)


class Judged(NamedTuple):
    """A rollout and its advantage."""

    rollout: Rollout
    advantage: float


@dataclass(frozen=True, kw_only=True)
class JudgedBatch(Batch):
    """Rollouts in one tree, their tokens in its targets' order."""

    judged: Sequence[Judged]
    told: dict[str, float]
    """What the round came to."""


@final
@dataclass(frozen=True, kw_only=True)
class GRPO(Objective):
    """Learn from the better of several own answers, judged by a reward."""

    needs: ClassVar[tuple[str, ...]] = ("pairs", "reward", "parameters")
    gives: ClassVar[tuple[str, ...]] = ("policy",)
    compares: ClassVar[bool] = True
    uses_reference: ClassVar[bool] = True
    rate_factor: ClassVar[float] = 0.1

    num_generations: Annotated[int, Ge(2), Le(64)] = 8
    """Answers to each prompt (G)."""
    epsilon: Annotated[float, Gt(0), Le(1)] = 0.2
    """How far the odds of a token may move in one round."""
    beta: Annotated[float, Ge(0)] = 0.04
    """Weight of the KL to the reference."""
    temperature: Annotated[float, Gt(0), Le(2)] = 1.0
    """Temperature the answers are drawn with."""

    def items(self, lm: LM, data: TrainingData) -> Sequence[Encoded]:
        """Return the rows: their prompts are answered, their answers may define the reward."""
        return data.rows

    def batches(
        self, lm: LM, data: TrainingData, items: Sequence[Encoded], rng: random.Random
    ) -> Iterator[Sequence[JudgedBatch]]:
        """Yield the steps of one round of rollouts after the other."""
        order, group = Passes(len(items), rng), self.num_generations
        prompts = [item.prompt for item in items]
        whole = math.lcm(data.batch_size, group)  # whole groups and whole steps
        n = math.ceil(STEPS_PER_ROUND * data.batch_size / whole) * whole // group
        while True:
            rows = [row for row in (next(order) for _ in range(n)) for _ in range(group)]
            rollouts = roll_out(
                lm,
                prompts,
                rows,
                seeds=[rng.getrandbits(48) for _ in rows],
                max_new_tokens=data.max_new_tokens,
                tokens_per_tree=data.tokens_per_tree,
                reference=data.reference,
                temperature=self.temperature,
            )
            rewards = torch.tensor(scored(data, [(one.row, one.answer) for one in rollouts]))
            ahead = group_advantages(rewards.view(n, group)).flatten().tolist()
            told = {
                "reward": float(rewards.mean()),
                "kl": sum(one.kl for one in rollouts) / len(rollouts),
            }
            judged = [Judged(one, a) for one, a in zip(rollouts, ahead, strict=True)]
            rng.shuffle(judged)
            for start in range(0, len(judged), data.batch_size):
                step = judged[start : start + data.batch_size]
                yield _trees(step, data.tokens_per_tree, told)

    def trees(self, items: Sequence[Judged], tokens_per_tree: int) -> list[JudgedBatch]:
        """Pack judged rollouts; each counts the same."""
        return _trees(items, tokens_per_tree, {})

    def loss(self, lm: LM, batch: JudgedBatch) -> tuple[Tensor, dict[str, float]]:
        """Return the share of the answers' mean of means."""
        logprobs = lm.logprobs(batch.tree)
        device = logprobs.device
        lengths = torch.tensor([len(one.rollout.answer) for one in batch.judged], device=device)
        old = torch.cat([one.rollout.logprobs for one in batch.judged]).to(device)
        reference = torch.cat([one.rollout.reference for one in batch.judged]).to(device)
        advantage = torch.tensor([one.advantage for one in batch.judged], device=device)
        advantage, weight = (x.repeat_interleave(lengths) for x in (advantage, 1 / lengths))
        ratio = (logprobs - old).clamp(-MOST_RATIO, MOST_RATIO).exp()
        apart = (reference - logprobs).clamp(-MOST_RATIO, MOST_RATIO)
        clipped = ratio.clamp(1 - self.epsilon, 1 + self.epsilon)
        policy = torch.maximum(-advantage * ratio, -advantage * clipped)
        tokens = policy + self.beta * (apart.exp() - apart - 1)
        loss = batch.share * (weight * tokens).sum() / len(batch.judged)
        return loss, {name: batch.share * value for name, value in batch.told.items()}

    @torch.no_grad()
    def judge(self, lm: LM, data: TrainingData, items: Sequence[Encoded]) -> tuple[None, float]:
        """Return minus the mean reward of one sampled answer to each dev row."""
        prompts = [item.prompt for item in items]
        answers = sample(lm, prompts, data.max_new_tokens, seeds=range(len(items)))
        scores = scored(data, list(enumerate(answers)))
        return None, -sum(scores) / len(scores)


def _trees(
    items: Sequence[Judged], tokens_per_tree: int, told: dict[str, float]
) -> list[JudgedBatch]:
    return [
        JudgedBatch(
            tree=tree_of([judged.rollout for judged in pack]),
            examples=len(pack),
            share=len(pack) / len(items),
            judged=pack,
            told=told,
        )
        for pack in packs(items, tokens_per_tree, lambda judged: judged.rollout.tokens)
    ]
