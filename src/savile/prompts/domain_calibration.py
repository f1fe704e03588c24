"""Domain-conditional PMI: how much more likely a label is for the question than for its domain.

    score(y) = log p(y | x) - log p(y | premise)

Source: Holtzman et al. 2021, arXiv 2104.08315, equation 4 (PMI_DC): forms of an answer compete for
probability, and a rare form loses although it is right.

What differs from the paper: its premise is the text between question and answer ("the answer
is:"), written for each data set; here it is a user turn after the instruction, by default
`prompt.answer_marker`. As in the paper no worked example stands before it.
Cost: one short prompt with all labels, once a call; no labelled row.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

from savile.prompts.base import Frame, Model, Prompt
from savile.prompts.base_calibration import Calibration
from savile.types import Example


@final
@dataclass(frozen=True, kw_only=True)
class DomainCalibration(Prompt):
    """Score labels against what they score after the domain's premise."""

    needs: ClassVar[tuple[str, ...]] = ("labels", "weights")
    occupies: ClassVar[tuple[str, ...]] = ("calibration",)

    premise: str = ""
    """The user turn that says no more than the domain; empty: `prompt.answer_marker`."""

    def fit(
        self,
        frame: Frame,
        train: Sequence[Example],
        rng: random.Random,
        model: Model | None = None,
    ) -> Frame:
        """Return the frame whose labels are calibrated by its domain."""
        premise = self.premise or frame.answer_marker
        return replace(frame, calibration=Calibration(inputs=(premise,), examples=False))
