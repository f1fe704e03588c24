"""Chain of thought: the steps are written out before the answer, which is then extracted.

Alone it is zero-shot: a trigger sentence after the question. With demonstrations or tuning the
worked steps of the `rationale` column are shown or learned.

Source: Wei et al. 2022, arXiv 2201.11903; zero-shot: Kojima et al. 2022, arXiv 2205.11916.

Cost: the tokens of the steps, in every answer.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

from savile.prompts.base import Frame, Model, Prompt
from savile.types import Example


@final
@dataclass(frozen=True, kw_only=True)
class ChainOfThought(Prompt):
    """Ask for steps, then the answer after `prompt.answer_marker`."""

    replaces: ClassVar[Mapping[str, str]] = {
        "pairs": "rationales",
        "preferences": "reasoned_preferences",
        "feedback": "reasoned_feedback",
        "labels": "scored_labels",
        "json_schema": "answers_alone",
        "regex": "answers_alone",
    }

    def fit(
        self,
        frame: Frame,
        train: Sequence[Example],
        rng: random.Random,
        model: Model | None = None,
    ) -> Frame:
        """Return the frame with reasoning switched on."""
        return replace(frame, reasoning=True)
