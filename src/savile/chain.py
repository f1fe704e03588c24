"""A chain of objectives on one attached delta: `sft`, then `reward`, then `ppo`.

One copy of the base and one delta serve every role: the policy, the reference and the reward model
are states of the delta (and heads), and a role is taken by loading its state. What an objective
gives that is no policy (a reward) is kept aside, and the policy goes on from where it was.

Source: the three steps of Ouyang et al. 2022, arXiv 2203.02155, section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from savile.copies import further, of_all, train_copies
from savile.deltas.base import Attached
from savile.job import Job
from savile.objectives.base import Encoded, Objective, Reward, Written
from savile.train import OnProgress, Trained, carrying
from savile.types import Example


@dataclass(frozen=True, kw_only=True)
class Chained:
    """What a chain left; the attached delta holds the policy."""

    trained: Trained
    """The last policy's training, with the sums of all; of one that diverged, its status."""
    start: Mapping[str, Tensor] | None
    """The policy before the first objective that is compared with its start; None without one."""
    tuned_start: bool
    """Whether an objective before that one trained it."""
    judge: Mapping[str, Tensor]
    """The reward model that was trained on the way: its delta's state and its heads, by name;
    empty without one."""
    reward: Callable[[Sequence[Encoded], Sequence[Example]], Reward] | None
    """What the last policy that was trained on a reward was rewarded by; None without one."""


def train_chain(
    job: Job,
    objectives: Sequence[Objective],
    attached: Attached,
    *,
    on_progress: OnProgress | None = None,
) -> Chained:
    """Train the objectives in turn, each with an equal part of the job's examples."""
    parts: list[Trained] = []
    start: dict[str, Tensor] | None = None
    tuned = tuned_start = False
    judge: dict[str, Tensor] = {}
    reward = None
    share = job.plan.examples // len(objectives)
    for objective in objectives:
        before = attached.state()
        if start is None and objective.compares:
            start, tuned_start = before, tuned
        if "reward" in objective.needs:
            reward = job.reward
        rate = job.plan.learning_rate * objective.rate_factor
        alone = job.plan.reached if len(objectives) == 1 else None
        plan = replace(job.plan, learning_rate=rate, examples=share, reached=alone)
        own = replace(job, objective=objective, plan=plan)
        hear = further(on_progress, parts, job.plan.examples)
        trained = train_copies(own, attached, on_progress=hear)
        name = type(objective).__name__.lower()
        parts.append(trained._replace(history=[{**h, "objective": name} for h in trained.history]))
        if trained.status != "ok":
            break
        if "reward" in objective.gives:
            judge = judge_state(attached, trained.heads)
            maker = reward_of(objective, attached, judge)
            job = replace(job, reward=lambda rows, examples, make=maker: make(rows))  # type: ignore[misc]
        if "policy" in objective.gives:
            tuned = True
        else:
            attached.load(before)
    return Chained(
        trained=_sum(parts, objectives),
        start=start,
        tuned_start=tuned_start,
        judge=judge,
        reward=reward,
    )


def judge_state(attached: Attached, heads: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return a trained judge as tensors: what is attached, and its heads."""
    state = {f"delta.{name}": tensor for name, tensor in attached.state().items()}
    for head, module in heads.items():
        own = module.state_dict()
        state |= {f"heads.{head}.{k}": v.detach().to("cpu", copy=True) for k, v in own.items()}
    return state


def reward_of(
    objective: Objective, attached: Attached, judge: Mapping[str, Tensor]
) -> Callable[[Sequence[Encoded]], Reward]:
    """Return the maker of the reward that a judge gives to answers to rows.

    Args:
        objective: what trained the judge.
        attached: the delta whose state the judge is, on its base.
        judge: from `judge_state`.
    """
    lm = attached.lm
    delta = {k.removeprefix("delta."): v for k, v in judge.items() if k.startswith("delta.")}
    heads = objective.modules(lm)
    for name, head in heads.items():
        start = f"heads.{name}."
        head.load_state_dict(
            {k.removeprefix(start): v for k, v in judge.items() if k.startswith(start)}
        )
        head.to(lm.device).requires_grad_(False)

    def make(rows: Sequence[Encoded]) -> Reward:
        def reward(written: Sequence[Written]) -> list[float]:
            with attached.at(delta), carrying(lm, heads):
                return objective.rewards(lm, rows, written)

        return reward

    return make


def _sum(parts: Sequence[Trained], objectives: Sequence[Objective]) -> Trained:
    """Return the last policy's scores with the work of all parts; those of a part that diverged."""
    both = zip(parts, objectives, strict=False)  # a chain ends where a part diverges
    policies = [part for part, objective in both if "policy" in objective.gives]
    last = policies[-1] if policies and parts[-1].status == "ok" else parts[-1]
    return of_all(parts, last)
