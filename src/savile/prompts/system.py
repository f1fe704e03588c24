"""System prompt: persona, policy or style put before everything else.

Source: the system role of chat models (Ouyang et al. 2022, arXiv 2203.02155, and the vendors' chat
formats).

Cost: its tokens, once per request, shared by all requests.
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
class System(Prompt):
    """Show the spec's `prompt.system`."""

    needs: ClassVar[tuple[str, ...]] = ("system",)

    def fit(
        self,
        frame: Frame,
        train: Sequence[Example],
        rng: random.Random,
        model: Model | None = None,
    ) -> Frame:
        """Return the frame with its system text shown."""
        return replace(frame, use_system=True)
