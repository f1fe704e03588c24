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
from typing import Annotated, ClassVar, Final, final

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from savile.lm.model import LM
from savile.lm.packing import packs
from savile.lm.rollouts import Rollout, tree_of
from savile.objectives.base import Encoded, TrainingData
from savile.objectives.base_rollouts import (
    FromRollouts,
    Judged,
    RolloutBatch,
    Round,
    clipped_policy_loss,
    rounds,
)

HEAD: Final = "value"
"""The head's name in `LM.heads`."""
BETA_STEP: Final = 0.1
"""How far one round moves beta for its error (K_beta of Ziegler et al. 2019, section 2.2)."""
LEAST_BETA, MOST_BETA = 1e-4, 1e2


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


def clipped_value_loss(values: Tensor, old: Tensor, returns: Tensor, eps: float) -> Tensor:
    """Return half the squared error of each token's value, [M], no value moving more than `eps`."""
    near = old + (values - old).clamp(-eps, eps)
    return 0.5 * torch.maximum((values - returns).square(), (near - returns).square())


def steered(beta: float, kl: float, target: float) -> float:
    """Return the weight of the KL penalty after a round whose answers had `kl`, in nats."""
    error = min(max(kl / target - 1, -0.2), 0.2)
    return min(max(beta * (1 + BETA_STEP * error), LEAST_BETA), MOST_BETA)


@final
@dataclass(frozen=True, kw_only=True)
class PPO(FromRollouts):
    """Learn to write what a reward prefers."""

    needs: ClassVar[tuple[str, ...]] = ("pairs", "reward", "parameters")
    gives: ClassVar[tuple[str, ...]] = ("policy",)
    by_tokens: ClassVar[bool] = True

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

    def batches(
        self, lm: LM, data: TrainingData, items: Sequence[Encoded], rng: random.Random
    ) -> Iterator[Sequence[RolloutBatch]]:
        """Yield the steps of one round after the other."""
        beta = self.kl_coef
        for made in rounds(lm, data, items, rng):
            judged = self._judged(lm, made, beta, data.tokens_per_tree)
            for _ in range(self.num_ppo_epochs):
                yield from self.steps(judged, {**made.told, "kl_coef": beta}, data, rng)
            if self.kl_target is not None:
                beta = steered(beta, made.told["kl"], self.kl_target)

    def loss(self, lm: LM, batch: RolloutBatch) -> tuple[Tensor, dict[str, float]]:
        """Return the share of the tokens' mean, policy and value together."""
        logprobs, values = _read(lm, [one.rollout for one in batch.judged])
        taught = batch.taught(logprobs.device)
        eps = self.cliprange
        policy = clipped_policy_loss(logprobs, taught.old, taught.advantages, eps).mean()
        value = clipped_value_loss(values, taught.values, taught.returns, eps).mean()
        moved = ((logprobs.detach() - taught.old).exp() - 1).abs() > eps
        told = batch.shares(value_loss=float(value.detach()), clipped=float(moved.float().mean()))
        return batch.share * (policy + self.vf_coef * value), told

    def _judged(self, lm: LM, made: Round, beta: float, tokens_per_tree: int) -> list[Judged]:
        """Return the answers of a round with whitened advantages, values and returns."""
        values = _values(lm, made.rollouts, tokens_per_tree)
        found = []
        for one, score, own in zip(made.rollouts, made.scores, values, strict=True):
            rewards = -beta * (one.logprobs - one.reference)
            rewards[-1] += score
            ahead = advantages(rewards, own, self.gamma, self.lam)
            found.append(Judged(one, ahead, own, ahead + own))
        every = torch.cat([judged.advantages for judged in found])
        mean, scale = every.mean(), every.std() + 1e-8
        return [judged._replace(advantages=(judged.advantages - mean) / scale) for judged in found]


@torch.no_grad()
def _values(lm: LM, rollouts: Sequence[Rollout], tokens_per_tree: int) -> list[Tensor]:
    """Return the value before each token of every answer, float32 [T] each, on the CPU."""
    found: dict[int, Tensor] = {}
    for pack in packs(rollouts, tokens_per_tree, lambda one: one.paths):
        sizes = [len(one.answer) for one in pack]
        parts = torch.split(_read(lm, pack)[1].cpu(), sizes)
        found |= {id(one): part for one, part in zip(pack, parts, strict=True)}
    return [found[id(one)] for one in rollouts]


def _read(lm: LM, rollouts: Sequence[Rollout]) -> tuple[Tensor, Tensor]:
    """Return log p and the value before each token of the answers, [M] each."""
    tree = tree_of(rollouts)
    logits, hidden = lm.logits_and_hidden(tree, tree.targets.source)
    tokens = torch.from_numpy(tree.targets.token).to(logits.device)
    logprobs = logits.gather(-1, tokens[:, None]).squeeze(-1) - logits.logsumexp(-1)
    values: Tensor = lm.heads[HEAD](hidden)
    return logprobs, values.squeeze(-1)
