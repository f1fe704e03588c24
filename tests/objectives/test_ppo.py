"""PPO's whole loss, advantages included, against loops over the tokens of a round."""

import math
import random
from dataclasses import replace
from itertools import islice

import pytest
import torch

from savile.deltas.full import Full
from savile.lm.model import LM
from savile.objectives.base import Written
from savile.objectives.base_rollouts import STEPS_PER_ROUND, Judged
from savile.objectives.ppo import HEAD, PPO
from tests import tiny
from tests.contracts.tree_gate import eager, shake
from tests.gates import Gate
from tests.objectives.test_rollouts import ROWS, data, worth

PPO_1 = PPO(gamma=0.9, lam=0.8, kl_coef=0.3, kl_target=None, vf_coef=0.5, num_ppo_epochs=1)


def read(lm: LM, one: Judged) -> list[tuple[float, float]]:
    """Return (log p, value) of every token of an answer, from transformers' own output."""
    ids = torch.tensor([[*one.rollout.prompt, *one.rollout.answer]])
    with eager(lm), torch.no_grad():
        out = lm.model(input_ids=ids, output_hidden_states=True)
        values = lm.heads[HEAD](out.hidden_states[-1][0]).squeeze(-1).double()
        logprobs = out.logits[0].double().log_softmax(-1)
    start = len(one.rollout.prompt) - 1
    return [
        (float(logprobs[start + t, token]), float(values[start + t]))
        for t, token in enumerate(one.rollout.answer)
    ]


def estimated(one: Judged, known: list[tuple[float, float]]) -> list[float]:
    """Return the generalized advantage estimates of an answer, as a sum of discounted errors."""
    rollout = one.rollout
    apart = (rollout.logprobs - rollout.reference).tolist()
    rewards = [-PPO_1.kl_coef * float(nats) for nats in apart]
    rewards[-1] += worth([Written(rollout.row, rollout.answer)])[0]
    values = [*(value for _, value in known), 0.0]
    errors = [r + PPO_1.gamma * values[t + 1] - values[t] for t, r in enumerate(rewards)]
    discount = PPO_1.gamma * PPO_1.lam
    return [
        sum(discount ** (k - t) * errors[k] for k in range(t, len(errors)))
        for t in range(len(errors))
    ]


def test_the_loss_is_the_loop(gate: Gate) -> None:
    lm, eps = tiny.lm("llama"), PPO_1.cliprange
    head = PPO_1.modules(lm)[HEAD]
    torch.nn.init.normal_(head.weight, std=0.2, generator=torch.Generator().manual_seed(1))
    lm.heads = {HEAD: head}
    with Full().attach(lm, 0) as attached:
        start = attached.state()
        shake(attached, seed=1)
        given = replace(data(batch_size=4), reference=lambda: attached.at(start))
        steps = list(islice(PPO_1.batches(lm, given, ROWS, random.Random(3)), STEPS_PER_ROUND))
        judged = [one for step in steps for batch in step for one in batch.judged]
        old = {id(one): read(lm, one) for one in judged}
        ahead = {id(one): estimated(one, old[id(one)]) for one in judged}
        shake(attached, seed=2)
        found = sum(float(PPO_1.loss(lm, batch)[0].detach()) for batch in steps[0])
        new = {id(one): read(lm, one) for one in judged}
    flat = [a for one in judged for a in ahead[id(one)]]
    mean = sum(flat) / len(flat)
    scale = math.sqrt(sum((a - mean) ** 2 for a in flat) / (len(flat) - 1)) + 1e-8
    losses, clipped = [], 0
    for one in (one for batch in steps[0] for one in batch.judged):
        for t, (logp, value) in enumerate(new[id(one)]):
            before, expected = old[id(one)][t]
            advantage, ratio = (ahead[id(one)][t] - mean) / scale, math.exp(logp - before)
            held = min(max(ratio, 1 - eps), 1 + eps)
            wanted = ahead[id(one)][t] + expected
            near = expected + min(max(value - expected, -eps), eps)
            policy = max(-advantage * ratio, -advantage * held)
            error = 0.5 * max((value - wanted) ** 2, (near - wanted) ** 2)
            losses.append(policy + PPO_1.vf_coef * error)
            clipped += held != ratio
    total = sum(losses) / len(losses)
    assert 0 < clipped < len(losses)
    assert found == pytest.approx(total, rel=1e-4)
    gate("ppo", "parity", abs(found - total) / abs(total), "a loop over transformers' output, loss")
