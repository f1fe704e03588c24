"""A technique is prompt x delta x objective: a candidate of the spec, instantiated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from savile import registry
from savile.deltas.base import Delta
from savile.joined import joined
from savile.objectives.base import Objective
from savile.prompts.base import Frame, Model, Prompt, fold
from savile.spec.ladder import Candidate
from savile.types import Example


@dataclass(frozen=True, kw_only=True)
class Technique:
    """One way of customizing a model, ready to run."""

    name: str
    prompts: tuple[Prompt, ...]
    delta: Delta | None
    objectives: tuple[Objective, ...]
    """Trained one after the other; empty for a prompt."""

    @property
    def stochastic(self) -> bool:
        """Whether the seed changes the outcome."""
        return self.delta is not None or any(prompt.stochastic for prompt in self.prompts)

    def frame(
        self, frame: Frame, train: Sequence[Example], seed: int, model: Model | None = None
    ) -> Frame:
        """Fold the prompts over the task's frame; `model` is the base they may ask."""
        return fold(self.prompts, frame, train, seed, model)


def build(candidate: Candidate, frame: Frame) -> Technique:
    """Instantiate the parts a candidate names for the task whose words `frame` holds."""
    deltas: list[Delta] = [_part("deltas", name, own) for name, own in candidate.deltas]
    return Technique(
        name=candidate.name,
        prompts=tuple(_part("prompts", name, settings) for name, settings in candidate.prompts),
        delta=joined([delta.for_task(frame.instruction, frame.labels) for delta in deltas]),
        objectives=tuple(_part("objectives", name, own) for name, own in candidate.objectives),
    )


def _part(axis: registry.Axis, name: str, settings: Mapping[str, Any]) -> Any:
    return registry.load(axis, name)(**settings)
