"""The form of the prompt: the instruction's place, plain text or chat, separators, words of labels.

Source: Brown et al. 2020, arXiv 2005.14165 (examples as plain text); Sclar et al. 2024, arXiv
2310.11324 (how much separators and placement move a score); Schick and Schütze 2021, arXiv
2001.07676 (words for labels).

By itself it writes plain text: `Input:` and `Output:` before each question and answer, all examples
in one user turn. Labels are scored in the words that are shown, and answers are given back as
labels. See `base_format.py` for what each place means.
Cost: the tokens of its labels and words.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, final

from annotated_types import MaxLen

from savile.errors import Problem, UsageError
from savile.prompts.base import Frame, Model, Prompt
from savile.prompts.base_check import wrong_words
from savile.prompts.base_format import Format
from savile.types import Example


@final
@dataclass(frozen=True, kw_only=True)
class Formatted(Prompt):
    """Write the prompt in another form."""

    instruction: Literal["system", "start", "before", "after"] = "system"
    """Where it stands: `system`, a message of its own; `start`, at the beginning of the first user
    turn; `before` or `after` the question, in its turn."""
    turns: Literal["plain", "chat"] = "plain"
    """`plain`: worked examples are text before the question; `chat`: each is two turns."""
    input_label: Annotated[str, MaxLen(200)] = "Input:"
    """What stands before every question; may be empty."""
    output_label: Annotated[str, MaxLen(200)] = "Output:"
    """What stands before every answer of plain text and ends every question; may be empty."""
    separator: Annotated[str, MaxLen(200)] = "\n"
    """What stands between the parts of an example."""
    between: Annotated[str, MaxLen(200)] = "\n\n"
    """What stands between the examples of plain text."""
    words: Mapping[str, str] | None = None
    """What is shown in the place of labels, such as `{neg: negative}`; all different."""

    def fit(
        self,
        frame: Frame,
        train: Sequence[Example],
        rng: random.Random,
        model: Model | None = None,
    ) -> Frame:
        """Return the frame in this form.

        Raises:
            UsageError: words for what is no label, or the same for two.
        """
        form = Format(
            instruction=self.instruction,
            turns=self.turns,
            input_label=self.input_label,
            output_label=self.output_label,
            separator=self.separator,
            between=self.between,
            words=dict(self.words or {}),
        )
        formed = replace(frame, format=form)
        if wrong := list(wrong_words(formed)):
            raise UsageError(
                [Problem(where=place, what=what, expected=known) for place, what, known in wrong]
            )
        return formed
