"""Answers that match a regular expression: a token that would leave it is never written.

    p(token | written) = 0 where no match begins with what is written and the token

Source: Willard and Louf 2023, arXiv 2307.09702 (guided generation by masks over the vocabulary);
the masks are those of llguidance (the extra `constrained`), whose expressions are regular ones:
without look-around and back references.

What to know: the whole answer matches, not a part of it. Endpoints have no common way to ask for
it. Nothing of it is learned: a tuned technique is trained without, and answers with it.
Cost: a mask over the vocabulary each token; no token more.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

from savile.prompts.base import Frame, Model, Prompt
from savile.prompts.base_constraint import Constraint
from savile.types import Example


@final
@dataclass(frozen=True, kw_only=True)
class ConstrainedRegex(Prompt):
    """Hold every written answer to `prompt.regex`."""

    needs: ClassVar[tuple[str, ...]] = ("regex", "weights")
    occupies: ClassVar[tuple[str, ...]] = ("constraint",)

    def fit(
        self,
        frame: Frame,
        train: Sequence[Example],
        rng: random.Random,
        model: Model | None = None,
    ) -> Frame:
        """Return the frame whose written answers match `prompt.regex`."""
        return replace(frame, constraint=Constraint(kind="regex", text=frame.regex or ""))
