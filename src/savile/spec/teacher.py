"""A model to learn from: another base, asked as one prompt technique of the ladder says."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Self, final

from pydantic import Field, model_validator

from savile.spec import ladder as grammar
from savile.spec.endpoint import Base, short_name
from savile.spec.section import Section
from savile.spec.settings import REAL


@final
class TeacherSection(Section):
    """A larger or better model that the base learns from, and is held against."""

    base: Base
    """Its base: `embedded-large`, a folder, a Hugging Face id, or an endpoint."""
    technique: Any = "zero_shot"
    """How it is asked: a prompt technique such as `{few_shot: {k: 16}}`."""
    margin: Annotated[float, Field(gt=0.0, le=1.0), REAL] = 0.02
    """How far below the teacher a technique may score and still count as equivalent."""

    @model_validator(mode="after")
    def _prompt(self) -> Self:
        found, faults = grammar.parse([self.technique], ("teacher", "technique"))
        if faults:
            raise ValueError(faults[0].what)
        if len(found) > 1:
            raise ValueError("'technique' of a teacher should be one, without lists of settings")
        if found[0].deltas or found[0].objectives:
            raise ValueError("'technique' of a teacher should be a prompt technique")
        return self

    @property
    def name(self) -> str:
        """What the base is called."""
        return short_name(self.base)

    @property
    def candidate(self) -> grammar.Candidate:
        """The teacher as a row of the board."""
        found, _ = grammar.parse([self.technique])
        return replace(found[0], name=f"teacher {self.name}: {found[0].name}")
