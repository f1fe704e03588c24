"""Rounds of the policy's own answers: whole groups, their rewards, and what RLOO makes of them."""

import random
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import pytest
import torch

from savile.deltas.full import Full
from savile.lm.generate import sample
from savile.objectives.base import Encoded, TrainingData, Written
from savile.objectives.base_rollouts import RolloutBatch, rounds
from savile.objectives.grpo import GRPO
from savile.objectives.rloo import RLOO
from tests import tiny
from tests.contracts.tree_gate import shake

ROWS = [Encoded([1, 30 + n, 40], [60, 4]) for n in range(5)]


def worth(written: Sequence[Written]) -> list[float]:
    return [sum(one.answer) % 7 / 7 + one.row for one in written]


def data(batch_size: int) -> TrainingData:
    return TrainingData(
        rows=ROWS, batch_size=batch_size, tokens_per_tree=64, max_new_tokens=5, reward=worth
    )


@pytest.mark.parametrize(("batch_size", "group"), [(4, 1), (6, 4), (3, 8), (16, 2)])
def test_a_round_is_whole_groups_and_whole_steps(batch_size: int, group: int) -> None:
    lm = tiny.lm("llama")
    made = next(rounds(lm, data(batch_size), ROWS, random.Random(0), group=group))
    n = len(made.rollouts)
    assert n % group == 0
    assert n % batch_size == 0
    assert n >= 4 * batch_size
    rows = [one.row for one in made.rollouts]
    assert all(len(set(rows[i : i + group])) == 1 for i in range(0, n, group))
    wanted = worth([Written(one.row, one.answer) for one in made.rollouts])
    assert made.scores.tolist() == pytest.approx(wanted)
    assert made.told["kl"] == pytest.approx(0.0, abs=1e-6)  # the policy is its own reference


def test_the_kl_is_in_the_reward_of_rloo() -> None:
    lm, objective = tiny.lm("llama"), RLOO(beta=0.7, num_generations=4)
    with Full().attach(lm, 0) as attached:
        start = attached.state()
        shake(attached)
        given = replace(data(batch_size=8), reference=lambda: attached.at(start))
        steps = objective.batches(lm, given, ROWS, random.Random(3))
        batches: list[RolloutBatch] = [batch for _ in range(4) for batch in next(steps)]
    judged = [one for batch in batches for one in batch.judged]
    assert len(judged) == 32
    reward = {id(one): worth([Written(one.rollout.row, one.rollout.answer)])[0] for one in judged}
    seen = 0
    for one in judged:
        twins = [other for other in judged if other.rollout.row == one.rollout.row]
        if len(twins) != 4:  # a prompt that was drawn twice has two groups
            continue
        totals = {id(t): reward[id(t)] - 0.7 * t.rollout.kl for t in twins}
        own = totals.pop(id(one))
        assert float(one.advantages) == pytest.approx(own - sum(totals.values()) / 3, abs=1e-5)
        seen += 1
    assert seen >= 4
    assert any(abs(one.rollout.kl) > 1e-3 for one in judged)


@pytest.mark.parametrize("objective", [GRPO(num_generations=2), RLOO(num_generations=2)])
def test_where_all_answers_are_worth_the_same_nothing_is_learned(objective: GRPO | RLOO) -> None:
    lm = tiny.lm("llama")
    flat = replace(data(batch_size=4), reward=lambda written: [0.5] * len(written))
    with Full().attach(lm, 0) as attached:
        for batch in next(objective.batches(lm, flat, ROWS, random.Random(0))):
            objective.loss(lm, batch)[0].backward()  # type: ignore[no-untyped-call]
        norms = [float(p.grad.norm()) for p in attached.parameters().values() if p.grad is not None]
    assert norms
    assert max(norms) < 1e-5


def refused() -> AbstractContextManager[None]:
    raise AssertionError("the reference was asked")


def test_without_a_kl_term_no_reference_is_asked() -> None:
    """Beta 0 is the limit of a small one: the same answers, loss and gradient, one reading less."""
    lm, losses, gradients = tiny.lm("llama"), [], []
    for beta, reference in ((0.0, refused), (1e-12, nullcontext)):
        objective, given = GRPO(num_generations=2, beta=beta), replace(data(4), reference=reference)
        with Full().attach(lm, 0) as attached:
            (batch,) = next(objective.batches(lm, given, ROWS, random.Random(0)))
            assert ("kl" in batch.told) == (beta > 0)
            shake(attached)
            loss, _ = objective.loss(lm, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(float(loss.detach()))
            gradients.append(
                torch.cat(
                    [p.grad.flatten() for p in attached.parameters().values() if p.grad is not None]
                )
            )
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert gradients[0].norm() > 1e-3
    torch.testing.assert_close(*gradients)
    with pytest.raises(AssertionError, match="was asked"):
        next(
            GRPO(num_generations=2).batches(
                lm, replace(data(4), reference=refused), ROWS, random.Random(0)
            )
        )


def test_a_dev_look_is_the_mean_reward_of_one_answer_a_row() -> None:
    lm = tiny.lm("llama")
    prompts = [row.prompt for row in ROWS]
    answers = sample(lm, prompts, 5, seeds=range(len(ROWS)))
    wanted = sum(worth([Written(n, a) for n, a in enumerate(answers)])) / len(ROWS)
    score, loss = RLOO().judge(lm, data(4), ROWS)
    assert score is None
    assert loss == pytest.approx(-wanted)
    with pytest.raises(ValueError, match="needs a reward"):
        RLOO().judge(lm, TrainingData(batch_size=1, tokens_per_tree=64), ROWS)


def test_clipping_holds_a_whole_answer() -> None:
    """RLOO's ratio is that of the answer: many small moves of tokens add up and are clipped."""
    lm, objective = tiny.lm("llama"), RLOO(epsilon=0.2, num_generations=2)
    batch = next(objective.batches(lm, data(4), ROWS, random.Random(0)))[0]
    moved = [
        one._replace(
            rollout=replace(one.rollout, logprobs=one.rollout.logprobs - 1),
            advantages=torch.ones(1),
        )
        for one in batch.judged
    ]
    (again,) = objective.trees(moved, 10_000)
    loss, _ = objective.loss(lm, again)
    assert float(loss) == pytest.approx(-1.2)
