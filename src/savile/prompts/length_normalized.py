"""Length normalization: labels are ranked by their mean log-probability a token, not by the sum.

    score(y) = 1/|y| sum over t of log p(y_t | x, y_<t)

Source: Brown et al. 2020, arXiv 2005.14165, section 2.4 (choices are compared by the likelihood per
token).

What differs from the paper: |y| counts the token that ends the label, which is scored too. With a
calibration the difference is divided, so neither depends on the other.
Cost: none, but that the best-first search over labels opens more of them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

from savile.prompts.base import Frame, Model, Prompt
from savile.types import Example


@final
@dataclass(frozen=True, kw_only=True)
class LengthNormalized(Prompt):
    """Score labels by their mean log-probability a token."""

    needs: ClassVar[tuple[str, ...]] = ("labels", "weights")

    def fit(
        self,
        frame: Frame,
        train: Sequence[Example],
        rng: random.Random,
        model: Model | None = None,
    ) -> Frame:
        """Return the frame whose labels are scored per token."""
        return replace(frame, length_normalized=True)
