"""A chain of objectives on one attached delta: `sft`, then `reward`, then `ppo`.

One copy of the base and one delta serve every role: the policy, the reference and the reward model
are states of the delta (and heads), and a role is taken by loading its state. What an objective
gives that is no policy (a reward) is kept aside, and the policy goes on from where it was.

Source: the three steps of Ouyang et al. 2022, arXiv 2203.02155, section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from savile.deltas.base import Attached
from savile.job import Job
from savile.objectives.base import Encoded, Objective, Reward, Written
from savile.train import OnProgress, Progress, Trained, carrying, train
from savile.types import Example


@dataclass(frozen=True, kw_only=True)
class Chained:
    """What a chain left; the attached delta holds the policy."""

    trained: Trained
    """The last policy's training, with the sums of all."""
    start: Mapping[str, Tensor] | None
    """The policy before the first objective that is compared with its start; None without one."""
    judged: Mapping[str, float]
    """Dev scores of what is no policy, by objective: the reward model's accuracy on pairs."""
    reward: Callable[[Sequence[Encoded], Sequence[Example]], Reward] | None
    """What the last objective was rewarded by."""


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
    judged: dict[str, float] = {}
    share = job.plan.examples // len(objectives)
    for objective in objectives:
        before = attached.state()
        if start is None and objective.compares:
            start = before
        rate = job.plan.learning_rate * objective.rate_factor
        plan = replace(job.plan, learning_rate=rate, examples=share)
        own = replace(job, objective=objective, plan=plan)
        trained = train(own, attached, on_progress=_further(on_progress, parts, job))
        name = type(objective).__name__.lower()
        parts.append(trained._replace(history=[{**h, "objective": name} for h in trained.history]))
        if trained.status != "ok":
            break
        if "reward" in objective.gives:
            job = replace(job, reward=_reward(objective, attached, trained))
        if "policy" not in objective.gives:
            judged[name] = trained.dev_score if trained.dev_score is not None else math.nan
            attached.load(before)
    return Chained(trained=_sum(parts), start=start, judged=judged, reward=job.reward)


def _reward(
    objective: Objective, attached: Attached, trained: Trained
) -> Callable[[Sequence[Encoded], Sequence[Example]], Reward]:
    """Return the maker of a reward by a trained model: a state of the delta and its heads."""
    state = attached.state()

    def make(rows: Sequence[Encoded], examples: Sequence[Example]) -> Reward:
        def reward(written: Sequence[Written]) -> list[float]:
            with attached.at(state), carrying(attached.lm, trained.heads):
                return objective.rewards(attached.lm, rows, written)

        return reward

    return make


def _further(listener: OnProgress | None, parts: Sequence[Trained], job: Job) -> OnProgress | None:
    """Tell the progress of the whole chain."""
    if listener is None:
        return None
    done = sum(part.examples for part in parts)
    return lambda p: listener(Progress(done + p.examples, job.plan.examples, p.loss))


def _sum(parts: Sequence[Trained]) -> Trained:
    """Return the last policy's scores with the work of all parts."""
    total: dict[str, Any] = {
        name: sum(getattr(part, name) for part in parts)
        for name in ("examples", "steps", "tokens", "flops", "seconds")
    }
    peaks = [part.peak_bytes for part in parts if part.peak_bytes is not None]
    history = [entry for part in parts for entry in part.history]
    return parts[-1]._replace(**total, peak_bytes=max(peaks, default=None), history=history)
