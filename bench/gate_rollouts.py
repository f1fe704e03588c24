"""The equality gate where the policy writes its own answers: both sides are given the same ones.

Ours writes a round, from a state in which no trained tensor is zero. The peer is handed those token
ids and computes the rest by itself: rewards, advantages, the log-probabilities of the policy that
wrote them and of the reference. Then the policy is moved away from the one that wrote, so that
ratios are not 1 and some are clipped: loss and gradient of a step there, in fp32, and the loss
curve of further steps on the same answers, with the same plain AdamW on both sides.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from case import Case
from gate import CURVE_TOLERANCE, STEP_TOLERANCE, distance, norm, parameters, set_state
from grid import OPTIONS
from jobs import EPSILON
from ours import Ours
from peer import Peer
from savile.objectives.base_rollouts import STEPS_PER_ROUND, Judged, RolloutBatch

AWAY = 0.012
"""Standard deviation of what is added to every trained number after the answers were written:
an eighth of the ratios then earn nothing more."""
STEPS = 6
"""Of the loss curve."""
TOKENS = 1 << 16
"""Of a tree: a step's answers fit into one."""


def gate(case: Case) -> dict[str, Any]:
    """Return the gate's record; `passed` says whether figures may follow."""
    ours = Ours(case, dtype="float32")
    peer = Peer(case, OPTIONS[f"exact {case.objective}"])
    writer = ours.random_state()
    ours.attached.load(writer)
    set_state(peer, writer)
    judged = of_one_round(ours)
    theirs = of_same_round(peer, judged)
    both = zip(Known._fields, of_judged(judged), of_inputs(theirs), strict=True)
    apart = {name: float((a - b).abs().max()) for name, a, b in both}
    step = judged[: case.batch_size]
    inputs = {name: held[: len(step)] for name, held in theirs.items()}
    moved = away(writer)
    ours.attached.load(moved)
    set_state(peer, moved)
    own = sides(
        ours.attached.parameters(),
        lambda: sum_of(ours, ours.objective.trees(step, TOKENS)),
        case.learning_rate,
    )
    other = sides(
        parameters(peer),
        lambda: peer.trainer.compute_loss(peer.trainer.model, dict(inputs)),
        case.learning_rate,
    )
    worst = max(distance(own.gradients[name], other.gradients[name]) for name in own.gradients)
    relative = [abs(a - b) / abs(b) for a, b in zip(own.losses, other.losses, strict=True)]
    return {
        "kind": "gate",
        "passed": max(relative[0], worst, *apart.values()) <= STEP_TOLERANCE
        and max(relative) <= CURVE_TOLERANCE,
        "rows_a_step": case.batch_size,
        "round": len(judged),
        "furthest": apart,
        "clipped": clipped(ours, step, moved),
        "first_loss": [own.losses[0], other.losses[0]],
        "first_loss_relative": relative[0],
        "gradient_norm": [norm(own.gradients), norm(other.gradients)],
        "gradient_relative_worst_tensor": worst,
        "tensors": len(own.gradients),
        "curve_steps": STEPS,
        "curve_relative_worst_step": max(relative),
        "curve": [
            [round(a, 5), round(b, 5)] for a, b in zip(own.losses, other.losses, strict=True)
        ],
    }


class Known(NamedTuple):
    """What is known of the answers of a round, token by token."""

    advantages: Tensor
    written: Tensor
    """log p under the policy that wrote them."""
    reference: Tensor


class Side(NamedTuple):
    """What one side computes of a step."""

    losses: list[float]
    gradients: dict[str, Tensor]
    """Of the first loss."""


def of_one_round(ours: Ours) -> list[Judged]:
    """Return the answers of our first round, step after step."""
    steps: Iterable[Sequence[Any]] = itertools.islice(ours.steps(), STEPS_PER_ROUND)
    return [one for step in steps for batch in step for one in batch.judged]


def of_same_round(peer: Peer, judged: Sequence[Judged]) -> dict[str, Tensor]:
    """Return what the peer makes of these answers, one row of each tensor an answer; it is given
    those to one prompt side by side."""
    trainer = peer.trainer
    order = sorted(range(len(judged)), key=lambda n: judged[n].rollout.row)
    rollouts = [judged[n].rollout for n in order]
    asked = [trainer.train_dataset[one.row] for one in rollouts]
    told, *_ = trainer._tokenize_prompts([row["prompt"] for row in asked])
    assert told == [list(one.prompt) for one in rollouts], "the prompts are not the same"
    trainer.rollout_func = lambda prompts, _: {
        "prompt_ids": told,
        "completion_ids": [one.answer for one in rollouts],
        "logprobs": None,
    }
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    made: dict[str, Tensor] = trainer._generate_and_score_completions(asked)
    places = torch.tensor(order).argsort()
    return {name: held[places] for name, held in made.items() if held.ndim}


def of_judged(judged: Sequence[Judged]) -> Known:
    """Return what we know of every token."""
    return Known(
        advantages=torch.cat([one.advantages for one in judged]),
        written=torch.cat([one.rollout.logprobs for one in judged]),
        reference=torch.cat([one.rollout.reference for one in judged]),
    )


def of_inputs(made: Mapping[str, Tensor]) -> Known:
    """Return what the peer knows of every token, in our order."""
    mask = made["completion_mask"].bool()
    return Known(
        advantages=made["advantages"][:, None].expand(mask.shape)[mask],
        written=made["old_per_token_logps"][mask],
        reference=made["ref_per_token_logps"][mask],
    )


def away(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state near another."""
    rng = torch.Generator().manual_seed(2)
    return {n: t + AWAY * torch.randn(t.shape, generator=rng) for n, t in state.items()}


def sum_of(ours: Ours, batches: Sequence[RolloutBatch]) -> Tensor:
    """Return our loss of a step."""
    return torch.stack([ours.objective.loss(ours.lm, batch)[0] for batch in batches]).sum()


def sides(parameters: Mapping[str, Tensor], loss: Callable[[], Tensor], rate: float) -> Side:
    """Take some steps; return the loss before each and the first gradient."""
    optimizer = torch.optim.AdamW(list(parameters.values()), lr=rate, weight_decay=0.0)
    losses: list[float] = []
    first: dict[str, Tensor] = {}
    for _ in range(STEPS):
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        losses.append(float(value.detach()))
        first = first or {n: p.grad.clone() for n, p in parameters.items() if p.grad is not None}
        optimizer.step()
    return Side(losses, first)


@torch.no_grad()
def clipped(ours: Ours, step: Sequence[Judged], moved: Mapping[str, Tensor]) -> float:
    """Return the share of a step's tokens whose ratio earns nothing more, in a moved state."""
    ours.attached.load(dict(moved))
    (batch,) = ours.objective.trees(step, TOKENS)
    taught = batch.taught(torch.device("cpu"))
    ratio = (ours.lm.logprobs(batch.tree) - taught.old).exp()
    better = taught.advantages > 0
    spent = torch.where(better, ratio > 1 + EPSILON, ratio < 1 - EPSILON)
    return float(spent.float().mean())
