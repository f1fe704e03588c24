"""Zero-shot: the instruction and the question, nothing else.

Source: Brown et al. 2020, arXiv 2005.14165, section 2.

Cost: no labels, no training, the shortest prompt.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from savile.prompts.base import Frame, Model, Prompt
from savile.types import Example


@final
@dataclass(frozen=True, kw_only=True)
class ZeroShot(Prompt):
    """The frame as it is."""

    def fit(
        self,
        frame: Frame,
        train: Sequence[Example],
        rng: random.Random,
        model: Model | None = None,
    ) -> Frame:
        """Return the frame unchanged."""
        return frame
