"""What one training is asked to do: a `Plan` and a `Job`, and the job's rows as an objective reads
them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from savile.lm.model import LM
from savile.metrics.base import Metric
from savile.objectives.base import Compared, Encoded, Objective, Reward, Teacher, TrainingData
from savile.prompts.base import Frame
from savile.types import Example, Preference


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how fast to train."""

    learning_rate: float
    """Peak learning rate."""
    examples: int
    """Example presentations (rows times passes)."""
    batch_size: int = 16
    """Examples of one optimizer step."""
    warmup: float = 0.06
    """Share of the steps over which the rate rises."""
    evaluations: int = 4
    """How often the dev rows are scored, the last step included."""
    max_grad_norm: float = 1.0
    weight_decay: float = 0.0
    tokens_per_tree: int = 4096
    """Most tokens of one tree; larger steps are accumulated."""
    reached: float | None = None
    """Dev loss that a short run with this rate came to, where there was one."""

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return max(1, self.examples // self.batch_size)

    def schedule(self, step: int) -> float:
        """Return the share of the peak learning rate at a step counted from 0: linear up, then
        linear down to 0."""
        rising = round(self.warmup * self.steps)
        if step < rising:
            return (step + 1) / (rising + 1)
        return (self.steps - step) / max(1, self.steps - rising)


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything one training needs; there is no test row in it, so none can leak."""

    lm: LM
    objective: Objective
    frame: Frame
    train: Sequence[Example]
    dev: Sequence[Example]
    metric: Metric
    plan: Plan
    seed: int
    max_new_tokens: int = 128
    preferences: Sequence[Preference] = ()
    dev_preferences: Sequence[Preference] = ()
    reward: Callable[[Sequence[Encoded], Sequence[Example]], Reward] | None = None
    """Makes the reward of answers to encoded rows and their examples."""
    teacher: Callable[[Sequence[Encoded], Sequence[Example]], Teacher] | None = None
    """Makes the teacher of encoded rows and their examples."""


def asked(frame: Frame, examples: Sequence[Example]) -> list[Example]:
    """Return the rows that are not shown as demonstrations."""
    shown = {(example.input, example.output) for example in frame.demonstrations}
    return [row for row in examples if (row.input, row.output) not in shown]


def encode(lm: LM, frame: Frame, examples: Sequence[Example]) -> list[Encoded]:
    """Return training rows as ids; rows shown as demonstrations are left out."""
    return [
        Encoded(
            lm.encode_prompt(frame.messages(row)),
            lm.encode_completion(frame.target(row)) if frame.shows_target(row) else [],
        )
        for row in asked(frame, examples)
    ]


def compared(lm: LM, frame: Frame, preferences: Sequence[Preference]) -> list[Compared]:
    """Return preferences as ids."""
    return [
        Compared(
            lm.encode_prompt(frame.messages(Example(id=row.id, input=row.input, output=""))),
            None if row.chosen is None else lm.encode_completion(frame.worded(row.chosen)),
            None if row.rejected is None else lm.encode_completion(frame.worded(row.rejected)),
        )
        for row in preferences
    ]


def training_data(
    job: Job,
    examples: Sequence[Example],
    preferences: Sequence[Preference],
    reference: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> TrainingData:
    """Return rows and preferences of a job, its train or its dev ones, as an objective reads them.

    Args:
        job: what they belong to.
        examples: rows; those shown as demonstrations are left out.
        preferences: judged answers; those to shown questions are left out too.
        reference: inside its context the model computes as it did when the training began.
    """
    plan = job.plan
    kept = asked(job.frame, examples)
    encoded = encode(job.lm, job.frame, kept)
    shown = {example.input for example in job.frame.demonstrations}
    judged = [row for row in preferences if row.input not in shown]
    return TrainingData(
        rows=encoded,
        preferences=compared(job.lm, job.frame, judged),
        batch_size=plan.batch_size,
        tokens_per_tree=plan.tokens_per_tree,
        steps=plan.steps,
        max_new_tokens=job.max_new_tokens,
        reference=reference,
        reward=None if job.reward is None else job.reward(encoded, kept),
        teacher=None if job.teacher is None else job.teacher(encoded, kept),
    )
