"""RLHF by proximal policy optimization: raise a reward, step by clipped step, near a reference.

    r_t = - beta * (log p(y_t) - log p_ref(y_t)) + [t = T] * reward(x, y)
    A_t = sum_k (gamma * lambda)^k * delta_{t+k},   delta_t = r_t + gamma * V_{t+1} - V_t
    L = E_t max(-A_t * rho_t, -A_t * clip(rho_t, 1 - eps, 1 + eps)) + c * value loss,
    rho_t = p(y_t) / p_old(y_t)

Source: Schulman et al. 2017, arXiv 1707.06347, equations 7 and 9; advantages: Schulman et al. 2015,
arXiv 1506.02438, equation 16; the reward with its KL penalty and the adaptive beta: Ziegler et al.
2019, arXiv 1909.08593, sections 2 and 2.2; clipped values and whitened advantages: Huang et al.
2024, arXiv 2403.17031.

Policy, reference, reward model and value function stand on one copy of the base: the reference and
the reward model are other states of the same delta, the value function is a head on the policy.

Cost: each rollout is written, read twice (policy, reference), scored, and trained on
`num_ppo_epochs` times; a head of D + 1 parameters.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, NamedTuple, final

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from savile.lm.generate import sample
from savile.lm.model import LM
from savile.lm.rollouts import Rollout, roll_out, tree_of
from savile.objectives.base import Batch, Encoded, Objective, Passes, TrainingData, packs, scored

HEAD: Final = "value"
"""The head's name in `LM.heads`."""
STEPS_PER_ROUND: Final = 4
"""Optimizer steps of one pass over the rollouts of a round."""
LEAST_BETA, MOST_BETA = 1e-4, 1e2
MOST_RATIO: Final = 20.0
"""Nats a token's log-ratio may have before it is held there, so that no exponential overflows."""


def advantages(rewards: Tensor, values: Tensor, gamma: float, lam: float) -> Tensor:
    """Return the generalized advantage estimates of one answer, [T].

    Args:
        rewards: reward of each token, [T].
        values: value before each token, [T]; after the last it is 0.
        gamma: discount.
        lam: 0 trusts the values, 1 the rewards.
    """
    following = torch.cat([values[1:], values.new_zeros(1)])
    deltas = rewards + gamma * following - values
    found, total = [], values.new_zeros(())
    for delta in deltas.flip(0):
        total = delta + gamma * lam * total
        found.append(total)
    return torch.stack(found[::-1])


def clipped_policy_loss(logprobs: Tensor, old: Tensor, advantage: Tensor, eps: float) -> Tensor:
    """Return equation 7, negated, of each token, [M]."""
    ratio = (logprobs - old).clamp(-MOST_RATIO, MOST_RATIO).exp()
    return torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - eps, 1 + eps))


def clipped_value_loss(values: Tensor, old: Tensor, returns: Tensor, eps: float) -> Tensor:
    """Return half the squared error of each token's value, [M], no value moving more than `eps`."""
    near = old + (values - old).clamp(-eps, eps)
    return 0.5 * torch.maximum((values - returns).square(), (near - returns).square())


class Judged(NamedTuple):
    """A rollout with what training on it needs, per token [T]."""

    rollout: Rollout
    advantages: Tensor
    returns: Tensor
    values: Tensor


@dataclass(frozen=True, kw_only=True)
class JudgedBatch(Batch):
    """Rollouts in one tree, their tokens in its targets' order."""

    judged: Sequence[Judged]
    told: dict[str, float]
    """What the round came to."""


@final
@dataclass(frozen=True, kw_only=True)
class PPO(Objective):
    """Learn to write what a reward prefers."""

    needs: ClassVar[tuple[str, ...]] = ("pairs", "reward", "parameters")
    gives: ClassVar[tuple[str, ...]] = ("policy",)
    compares: ClassVar[bool] = True
    uses_reference: ClassVar[bool] = True
    rate_factor: ClassVar[float] = 0.1

    num_ppo_epochs: Annotated[int, Ge(1), Le(100)] = 4
    """Passes over the rollouts of a round."""
    cliprange: Annotated[float, Gt(0), Le(1)] = 0.2
    """How far the odds of a token may move in one round (eps)."""
    kl_coef: Annotated[float, Ge(0)] = 0.05
    """Weight of the KL penalty at the start (beta)."""
    kl_target: Annotated[float, Gt(0)] | None = 6.0
    """KL in nats an answer that beta is steered to; None leaves beta as it is."""
    vf_coef: Annotated[float, Ge(0)] = 0.1
    """Weight of the value loss (c)."""
    gamma: Annotated[float, Gt(0), Le(1)] = 1.0
    """Discount of later tokens."""
    lam: Annotated[float, Ge(0), Le(1)] = 0.95
    """Trust in rewards against values."""

    def modules(self, lm: LM) -> dict[str, nn.Module]:
        """Return the value head, 0 everywhere at the start."""
        head = nn.Linear(lm.sites.width, 1)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        return {HEAD: head}

    def items(self, lm: LM, data: TrainingData) -> Sequence[Encoded]:
        """Return the rows: their prompts are answered, their answers may define the reward."""
        return data.rows

    def batches(
        self, lm: LM, data: TrainingData, items: Sequence[Encoded], rng: random.Random
    ) -> Iterator[Sequence[JudgedBatch]]:
        """Yield the steps of one round of rollouts after the other."""
        beta, order = self.kl_coef, Passes(len(items), rng)
        size = STEPS_PER_ROUND * data.batch_size
        while True:
            rollouts = roll_out(
                lm,
                [item.prompt for item in items],
                [next(order) for _ in range(size)],
                seeds=[rng.getrandbits(48) for _ in range(size)],
                max_new_tokens=data.max_new_tokens,
                tokens_per_tree=data.tokens_per_tree,
                reference=data.reference,
            )
            scores = scored(data, [(one.row, one.answer) for one in rollouts])
            judged = self._judged(lm, rollouts, scores, beta, data.tokens_per_tree)
            kl = sum(one.kl for one in rollouts) / size
            told = {"reward": sum(scores) / size, "kl": kl, "kl_coef": beta}
            for _ in range(self.num_ppo_epochs):
                rng.shuffle(judged)
                for start in range(0, size, data.batch_size):
                    step = judged[start : start + data.batch_size]
                    yield _trees(step, data.tokens_per_tree, told)
            if self.kl_target is not None:
                error = min(max(kl / self.kl_target - 1, -0.2), 0.2)
                beta = min(max(beta * (1 + error * 0.1 * STEPS_PER_ROUND), LEAST_BETA), MOST_BETA)

    def trees(self, items: Sequence[Judged], tokens_per_tree: int) -> list[JudgedBatch]:
        """Pack judged rollouts; a tree's share is its part of the tokens."""
        return _trees(items, tokens_per_tree, {})

    def loss(self, lm: LM, batch: JudgedBatch) -> tuple[Tensor, dict[str, float]]:
        """Return the share of the tokens' mean, policy and value together."""
        logprobs, values = _read(lm, batch.judged)
        old, advantage, returns, before = (
            torch.cat(list(tensors)).to(logprobs.device)
            for tensors in zip(
                *((j.rollout.logprobs, j.advantages, j.returns, j.values) for j in batch.judged),
                strict=True,
            )
        )
        policy = clipped_policy_loss(logprobs, old, advantage, self.cliprange).mean()
        value = clipped_value_loss(values, before, returns, self.cliprange).mean()
        moved = ((logprobs.detach() - old).exp() - 1).abs() > self.cliprange
        told = {
            **batch.told,
            "value_loss": float(value.detach()),
            "clipped": float(moved.float().mean()),
        }
        loss = batch.share * (policy + self.vf_coef * value)
        return loss, {name: batch.share * value for name, value in told.items()}

    @torch.no_grad()
    def judge(self, lm: LM, data: TrainingData, items: Sequence[Encoded]) -> tuple[None, float]:
        """Return minus the mean reward of one sampled answer to each dev row."""
        prompts = [item.prompt for item in items]
        answers = sample(lm, prompts, data.max_new_tokens, seeds=range(len(items)))
        scores = scored(data, list(enumerate(answers)))
        return None, -sum(scores) / len(scores)

    def _judged(
        self,
        lm: LM,
        rollouts: Sequence[Rollout],
        scores: Sequence[float],
        beta: float,
        tokens_per_tree: int,
    ) -> list[Judged]:
        """Return rollouts with whitened advantages and returns."""
        with torch.no_grad():
            none = torch.zeros(0)
            bare = [Judged(one, none, none, none) for one in rollouts]
            values: dict[int, Tensor] = {}
            for pack in packs(bare, tokens_per_tree, lambda j: j.rollout.tokens):
                flat = _read(lm, pack)[1].cpu()
                sizes = [len(j.rollout.answer) for j in pack]
                values |= {
                    id(j.rollout): v for j, v in zip(pack, torch.split(flat, sizes), strict=True)
                }
        found = []
        for one, score in zip(rollouts, scores, strict=True):
            rewards = -beta * (one.logprobs - one.reference)
            rewards[-1] += score
            own = values[id(one)]
            ahead = advantages(rewards, own, self.gamma, self.lam)
            found.append(Judged(one, ahead, ahead + own, own))
        every = torch.cat([judged.advantages for judged in found])
        mean, scale = every.mean(), every.std() + 1e-8
        return [judged._replace(advantages=(judged.advantages - mean) / scale) for judged in found]


def _trees(
    items: Sequence[Judged], tokens_per_tree: int, told: dict[str, float]
) -> list[JudgedBatch]:
    total = sum(len(judged.rollout.answer) for judged in items)
    return [
        JudgedBatch(
            tree=tree_of([judged.rollout for judged in pack]),
            examples=len(pack),
            share=sum(len(judged.rollout.answer) for judged in pack) / total,
            judged=pack,
            told=told,
        )
        for pack in packs(items, tokens_per_tree, lambda judged: judged.rollout.tokens)
    ]


def _read(lm: LM, judged: Sequence[Judged]) -> tuple[Tensor, Tensor]:
    """Return log p and the value before each token of the rollouts, [M] each."""
    tree = tree_of([one.rollout for one in judged])
    logits, hidden = lm.logits_and_hidden(tree, tree.targets.source)
    tokens = torch.from_numpy(tree.targets.token).to(logits.device)
    logprobs = logits.gather(-1, tokens[:, None]).squeeze(-1) - logits.logsumexp(-1)
    values: Tensor = lm.heads[HEAD](hidden)
    return logprobs, values.squeeze(-1)
