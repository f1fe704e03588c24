"""Answers that are JSON of a schema: a token that would leave it is never written.

    p(token | written) = 0 where no text of the schema begins with what is written and the token

Source: Willard and Louf 2023, arXiv 2307.09702 (guided generation by masks over the vocabulary);
the masks are those of llguidance (the extra `constrained`); at an endpoint `response_format`.

What to know: the shape is certain, the content is not, and an answer that is cut at its limit is no
JSON: bound texts by `maxLength`. At most one white space stands between two parts. Nothing of it
is learned: a tuned technique is trained without, and answers with it.
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
class ConstrainedJson(Prompt):
    """Hold every written answer to `prompt.json_schema`."""

    needs: ClassVar[tuple[str, ...]] = ("json_schema", "json_replies")
    occupies: ClassVar[tuple[str, ...]] = ("constraint",)
    decides: ClassVar[tuple[str, ...]] = ("response_format",)

    def fit(
        self,
        frame: Frame,
        train: Sequence[Example],
        rng: random.Random,
        model: Model | None = None,
    ) -> Frame:
        """Return the frame whose written answers match `prompt.json_schema`."""
        return replace(
            frame, constraint=Constraint(kind="json_schema", text=frame.json_schema or "")
        )
