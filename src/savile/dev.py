"""How good a model is on the dev rows, by its objective and by the task's own metric: what chooses
the best state of a training, and says what a merged one is worth.

Cost: a look is one forward pass over the dev rows for the loss, and their answers for the metric.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from savile.errors import DataError, Problem
from savile.job import Job, training_data
from savile.lm.local import Local
from savile.predict import predict
from savile.types import Prediction


class Look(NamedTuple):
    """What one look at the dev rows found."""

    score: float
    """By the objective where it has a score of its own, else by the task's metric."""
    loss: float
    """0 where no dev row shows its whole target."""
    answers: Sequence[Prediction] = ()
    """Scored by the metric; empty where the objective has a score of its own."""


class Dev:
    """The dev rows of a job as its objective sees them, encoded once."""

    def __init__(
        self, job: Job, reference: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> None:
        self._job = job
        self.data = training_data(job, job.dev, job.dev_preferences, reference)
        self.items = job.objective.items(job.lm, self.data)

    def loss(self) -> float | None:
        """Return the loss of the model as it is now; None where no row shows its whole target."""
        if not self.items:
            return None
        return self._job.objective.judge(self._job.lm, self.data, self.items)[1]

    def look(self) -> Look:
        """Score the model as it is now."""
        job, lm = self._job, self._job.lm
        if self.items:
            score, loss = job.objective.judge(lm, self.data, self.items)
        else:
            score, loss = None, 0.0
        if score is not None:
            return Look(score, loss)
        found = predict(Local(lm), job.frame, job.dev, max_new_tokens=job.max_new_tokens)
        references = [example.accepted for example in job.dev]
        answers = [prediction.answer for prediction in found]
        return Look(job.metric.score(answers, references, job.frame.labels), loss, found)


def enough(job: Job, items: Sequence[Any], dev: Dev) -> None:
    """Refuse to train on nothing, or without a dev row; dev rows without steps have a score."""
    if not items:
        raise DataError(
            Problem(
                what="no training row is left beside the demonstrations",
                found=f"{len(job.train)} rows, {len(job.frame.demonstrations)} shown",
                fix="Show fewer demonstrations or label more rows.",
            )
        )
    judged = {"preferences", "feedback"} & set(job.objective.needs)
    if job.dev and judged and not dev.items:
        raise DataError(
            Problem(
                what="there is no dev preference to choose the best state by",
                found=f"{len(job.preferences)} train, {len(job.dev_preferences)} dev preferences",
                expected="judged answers of the kind that is trained on among the dev rows",
                fix="Give more preferences, or judged answers in data.dev.",
            )
        )
    if not job.dev or (not dev.items and all(row.completion for row in dev.data.rows)):
        raise DataError(
            Problem(
                what="there is no dev row to choose the best state by",
                fix="Give data.dev, or a share of the rows (data.shares.dev).",
            )
        )
