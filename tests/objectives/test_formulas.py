"""Each objective's formula against a plain loop in double precision."""

import math
import random

import pytest
import torch

from savile.objectives.base_rollouts import clipped_policy_loss
from savile.objectives.dpo import DPO
from savile.objectives.grpo import group_advantages
from savile.objectives.ipo import IPO
from savile.objectives.kto import kahneman_tversky
from savile.objectives.orpo import ORPO
from savile.objectives.ppo import advantages, clipped_value_loss, steered
from savile.objectives.reward import bradley_terry
from savile.objectives.rloo import leave_one_out
from savile.objectives.simpo import SimPO
from tests.gates import Gate

LIMIT = 1e-6


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def pairs(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = random.Random(seed)
    tokens = [[rng.randint(1, 30) for _ in range(2)] for _ in range(n)]
    policy = [[-rng.uniform(0.05, 3) * t for t in row] for row in tokens]
    reference = [[value + rng.uniform(-4, 4) for value in row] for row in policy]
    both = (torch.tensor(x, dtype=torch.float64) for x in (policy, reference))
    return *both, torch.tensor(tokens, dtype=torch.float64)  # type: ignore[return-value]


def odds(mean: float) -> float:
    p = math.exp(mean)
    return p / (1 - p)


FORMULAS = {
    "dpo": (
        DPO(beta=0.2),
        lambda w, x, rw, rx, nw, nx: -math.log(sigmoid(0.2 * ((w - rw) - (x - rx)))),
    ),
    "cdpo": (
        DPO(beta=0.2, label_smoothing=0.1),
        lambda w, x, rw, rx, nw, nx: (
            -0.9 * math.log(sigmoid(0.2 * ((w - rw) - (x - rx))))
            - 0.1 * math.log(sigmoid(-0.2 * ((w - rw) - (x - rx))))
        ),
    ),
    "ipo": (
        IPO(tau=0.25),
        lambda w, x, rw, rx, nw, nx: ((w - rw) / nw - (x - rx) / nx - 2.0) ** 2,
    ),
    "simpo": (
        SimPO(beta=2.5, gamma_beta_ratio=0.4),
        lambda w, x, rw, rx, nw, nx: -math.log(sigmoid(2.5 * w / nw - 2.5 * x / nx - 1.0)),
    ),
    "orpo": (
        ORPO(beta=0.3),
        lambda w, x, rw, rx, nw, nx: (
            -w / nw - 0.3 * math.log(sigmoid(math.log(odds(w / nw) / odds(x / nx))))
        ),
    ),
}


@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_a_formula_over_pairs(name: str, gate: Gate) -> None:
    objective, wanted = FORMULAS[name]
    policy, reference, tokens = pairs(40, seed=len(name))
    found = objective.formula(objective.measures(policy, reference, tokens))
    for n, loss in enumerate(found.tolist()):
        value = wanted(*policy[n].tolist(), *reference[n].tolist(), *tokens[n].tolist())
        assert loss == pytest.approx(value, rel=LIMIT)
        gate(objective, "parity", abs(loss - value) / abs(value), "the formula, loss")


@pytest.mark.parametrize("mean", [-1e-9, -1e-4, -0.5, -0.7, -5.0, -60.0])
def test_orpo_is_exact_at_both_ends(mean: float) -> None:
    policy = torch.tensor([[mean, -1.0]], dtype=torch.float64)
    found = ORPO(beta=1.0).formula(policy)
    gap = (mean - math.log(-math.expm1(mean))) - (-1.0 - math.log(-math.expm1(-1.0)))
    assert float(found) == pytest.approx(-mean + math.log1p(math.exp(-gap)), rel=1e-9)


def test_kto_is_the_value_function() -> None:
    moved = [-3.0, -0.2, 0.0, 0.7, 5.0]
    for wanted in (True, False):
        found = kahneman_tversky(
            torch.tensor(moved, dtype=torch.float64), torch.tensor([wanted] * 5), 0.4, 0.3
        )
        sign = 1 if wanted else -1
        expected = [1 - sigmoid(0.3 * sign * (m - 0.4)) for m in moved]
        assert found.tolist() == pytest.approx(expected, rel=LIMIT)


def test_a_comparison_is_bradley_terry() -> None:
    found = bradley_terry(torch.tensor([2.0, -1.0]), torch.tensor([0.5, 3.0]))
    wanted = [-math.log(math.exp(a) / (math.exp(a) + math.exp(b))) for a, b in ((2, 0.5), (-1, 3))]
    assert found.tolist() == pytest.approx(wanted, rel=LIMIT)


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.0), (0.9, 1.0), (1.0, 1.0)])
def test_advantages_are_the_discounted_sum_of_errors(gamma: float, lam: float) -> None:
    rng = random.Random(3)
    rewards, values = ([rng.uniform(-1, 1) for _ in range(7)] for _ in range(2))
    found = advantages(torch.tensor(rewards), torch.tensor(values), gamma, lam).tolist()
    errors = [
        r + gamma * following - v
        for r, v, following in zip(rewards, values, [*values[1:], 0.0], strict=True)
    ]
    for t in range(7):
        wanted = sum((gamma * lam) ** (k - t) * errors[k] for k in range(t, 7))
        assert found[t] == pytest.approx(wanted, abs=1e-6)


def test_with_full_trust_in_rewards_an_advantage_is_the_return_minus_the_value() -> None:
    rewards, values = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.3, 0.5, 0.9])
    assert advantages(rewards, values, 1.0, 1.0).tolist() == pytest.approx([0.7, 0.5, 0.1])


def test_the_policy_loss_is_flat_outside_the_clip_where_it_helps() -> None:
    old = torch.zeros(4)
    new = torch.tensor([0.5, 0.5, -0.5, -0.5], requires_grad=True)
    advantage = torch.tensor([1.0, -1.0, 1.0, -1.0])
    losses = clipped_policy_loss(new, old, advantage, 0.2)
    wanted = [-1.2, math.exp(0.5), -math.exp(-0.5), 0.8]
    assert losses.tolist() == pytest.approx(wanted, rel=LIMIT)
    losses.sum().backward()
    assert new.grad is not None
    assert [bool(g) for g in new.grad] == [False, True, True, False]


def test_the_value_loss_takes_the_worse_of_the_two() -> None:
    values, old = torch.tensor([1.0, 1.0]), torch.tensor([0.0, 0.9])
    returns = torch.tensor([1.0, 0.5])
    found = clipped_value_loss(values, old, returns, 0.2).tolist()
    assert found == pytest.approx([0.5 * 0.8**2, 0.5 * 0.5**2], rel=LIMIT)


def test_a_group_is_measured_against_itself() -> None:
    found = group_advantages(torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.5, 0.5]]))
    scale = torch.tensor([1.0, 0.0, 0.0, 1.0]).std() + 1e-4
    assert found[0].tolist() == pytest.approx([float(x / scale) for x in (0.5, -0.5, -0.5, 0.5)])
    assert found[1].tolist() == [0.0] * 4


def test_an_answer_is_measured_against_the_others() -> None:
    rng = random.Random(8)
    rewards = [[rng.uniform(-2, 2) for _ in range(5)] for _ in range(6)]
    found = leave_one_out(torch.tensor(rewards, dtype=torch.float64)).tolist()
    for group, row in zip(found, rewards, strict=True):
        for i, advantage in enumerate(group):
            others = [reward for j, reward in enumerate(row) if j != i]
            assert advantage == pytest.approx(row[i] - sum(others) / 4, abs=LIMIT)


@pytest.mark.parametrize(
    ("kl", "factor"), [(6.0, 1.0), (6.6, 1.01), (60.0, 1.02), (0.0, 0.98), (-5.0, 0.98)]
)
def test_one_round_moves_beta_by_a_tenth_of_its_clipped_error(kl: float, factor: float) -> None:
    """Ziegler et al. 2019, section 2.2: e = clip(KL / target - 1, -0.2, 0.2), K_beta = 0.1."""
    assert steered(0.05, kl, 6.0) == pytest.approx(0.05 * factor, rel=LIMIT)


@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_what_is_logged_of_pairs_is_what_the_formula_compares(name: str) -> None:
    """More of the margin is less of the loss; nothing else of the pair matters to who is ahead."""
    objective, _ = FORMULAS[name]
    policy, reference, tokens = pairs(40, seed=1)
    measures = objective.measures(policy, reference, tokens)
    per_token = name in ("ipo", "orpo", "simpo")
    refers = name in ("dpo", "cdpo", "ipo")
    for n, found in enumerate(measures.tolist()):
        for side, value in enumerate(found):
            wanted = policy[n, side] - (reference[n, side] if refers else 0)
            wanted = wanted / tokens[n, side] if per_token else wanted
            assert value == pytest.approx(float(wanted), rel=LIMIT)
