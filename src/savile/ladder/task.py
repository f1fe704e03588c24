"""What a spec and its data say before any base is loaded: the task's words, the rows that judge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, TypeVar

import numpy as np

from savile import registry
from savile.data import Dataset
from savile.errors import Problem, UsageError
from savile.ladder.plan import BATCH_SIZE
from savile.metrics.base import Array, Metric
from savile.prompts.base import Frame, fold
from savile.spec import Candidate, Spec
from savile.types import Example, Preference

Row = TypeVar("Row", Example, Preference)

MOST_JUDGES: Final = 256
"""Dev rows that judge: they tell learning rates apart, and every look at them costs a pass."""


def frame_of(spec: Spec, dataset: Dataset) -> Frame:
    """Return the task's words, before any prompt changes them."""
    prompt = spec.prompt
    return Frame(
        instruction=prompt.instruction,
        variants=prompt.variants,
        system=prompt.system,
        trigger=prompt.trigger,
        answer_marker=prompt.answer_marker,
        labels=dataset.labels,
        stop=prompt.stop,
        json_schema=None if prompt.json_schema is None else json.dumps(prompt.json_schema),
        regex=prompt.regex,
    )


def metric_of(spec: Spec) -> Metric:
    """Instantiate the spec's metric."""
    metric: Metric = registry.load("metrics", spec.metric_name)(**spec.metric_settings)
    return metric


def check_race(spec: Spec, dataset: Dataset) -> None:
    """Refuse a race that could compare nothing.

    Raises:
        UsageError: there is no dev row to race on, the metric is not the mean of its rows, or no
            two scores differ by the margin.
    """
    margin, metric, dev = spec.budget.race, metric_of(spec), judges(dataset.dev)
    if margin is None:
        return
    if not dev or not _is_mean(metric, dev, dataset.labels):
        raise UsageError(
            Problem(
                where="budget.race",
                what="compares techniques row by row",
                found=f"{len(dev)} dev rows, the metric {spec.metric_name}",
                expected="dev rows, and a metric that is the mean of its rows",
                fix="Leave budget.race out, or choose another metric",
            )
        )
    if margin >= metric.top:
        what = f"no two scores of {spec.metric_name} differ by more than it"
        expected = f"less than {metric.top:g}"
        raise UsageError(
            Problem(where="budget.race", what=what, found=f"{margin:g}", expected=expected)
        )


def check_share(spec: Spec, candidates: Sequence[Candidate]) -> None:
    """Refuse presentations that are less than a step of every objective of a chain.

    Raises:
        UsageError: `budget.train_examples` is less than one batch, or than one an objective.
    """
    tuned = [one for one in candidates if one.deltas and one.reason is None]
    longest = max(tuned, key=lambda one: len(one.objectives), default=None)
    parts = 0 if longest is None else max(1, len(longest.objectives))
    given = spec.budget.train_examples
    if longest is None or given is None or given >= parts * BATCH_SIZE:
        return
    each = f" for each of the {parts} objectives of {longest.name!r}" if parts > 1 else ""
    raise UsageError(
        Problem(
            where="budget.train_examples",
            what=f"is less than one batch{each}",
            found=str(given),
            expected=f"at least {parts * BATCH_SIZE}",
        )
    )


def scores(
    metric: Metric, rows: Sequence[Example], answers: Sequence[str | None], labels: Sequence[str]
) -> Array:
    """Return the score of each row, by its answer: float64 [n]."""
    found: Array = metric.aggregate(metric.statistics(answers, [r.accepted for r in rows], labels))
    return found


def _is_mean(metric: Metric, rows: Sequence[Example], labels: Sequence[str]) -> bool:
    """Return whether a metric is the mean of what it is on single rows, by the wanted answers with
    every other one left out."""
    answers = [row.output if n % 2 else None for n, row in enumerate(rows)]
    whole = metric.score(answers, [row.accepted for row in rows], labels)
    return bool(np.isclose(scores(metric, rows, answers, labels).mean(), whole))


def check_prompts(spec: Spec, dataset: Dataset, candidates: Sequence[Candidate]) -> None:
    """Refuse prompts that cannot be written for this task, whatever the base is.

    Raises:
        UsageError: with all of them.
    """
    problems: list[Problem] = []
    for candidate in (one for one in candidates if one.reason is None):
        prompts = [registry.load("prompts", name)(**own) for name, own in candidate.prompts]
        try:
            fold(prompts, frame_of(spec, dataset), (), spec.seed)
        except UsageError as error:
            problems += error.problems
    if problems:
        raise UsageError(list(dict.fromkeys(problems)))


def judges(dev: Sequence[Row]) -> tuple[Row, ...]:
    """Return the dev rows, or dev preferences, that judge every technique: those with the lowest
    ids.

    An id is a hash of its row, so they are a random sample that new rows hardly move.
    """
    return tuple(sorted(dev, key=lambda row: row.id)[:MOST_JUDGES])
