"""Contextual calibration: what the model prefers before it reads a question is taken off.

    score(y) = log p(y | x) - log mean over c of p(y | c)     c: the prompt of x with "N/A" for x

Source: Zhao et al. 2021, arXiv 2102.09690, section 5 (diagonal W, b = 0; the inputs "N/A", "[MASK]"
and the empty one, averaged as probabilities).

What differs from the paper: a label counts with all its tokens and its end, not its first token.
The worked examples before a content-free input are those of the question, so where they are found
for each question, each has a bias of its own. A tuned technique is calibrated with its tuned model,
when it answers; training does not know of it.
Cost: the content-free prompts with all labels, once a call and set of examples; no labelled row.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, final

from annotated_types import MaxLen, MinLen

from savile.prompts.base import Frame, Model, Prompt
from savile.prompts.base_calibration import Calibration
from savile.types import Example


@final
@dataclass(frozen=True, kw_only=True)
class ContextualCalibration(Prompt):
    """Score labels against what they score after inputs without content."""

    needs: ClassVar[tuple[str, ...]] = ("labels", "weights")
    occupies: ClassVar[tuple[str, ...]] = ("calibration",)

    inputs: Annotated[tuple[str, ...], MinLen(1), MaxLen(16)] = ("N/A", "[MASK]", "")
    """What stands for a question without content."""

    def fit(
        self,
        frame: Frame,
        train: Sequence[Example],
        rng: random.Random,
        model: Model | None = None,
    ) -> Frame:
        """Return the frame whose labels are calibrated in its own context."""
        return replace(frame, calibration=Calibration(inputs=self.inputs, examples=True))
