"""What a spec and its data say before any base is loaded: the task's words, the rows that judge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, TypeVar

from savile import registry
from savile.data import Dataset
from savile.errors import Problem, UsageError
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
