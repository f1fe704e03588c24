"""An ordinary transformers folder: the base with what was trained folded into its weights.

    W' = W + s B A (LoRA), l * W ((IA)3), or the weights that were trained themselves

Every tool that runs the base runs it. The weights have the type in which the technique was
measured.

Cost: the bytes of the base; rounding to its type, which is none worth naming in float32.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

from savile.export.base import (
    Customization,
    PlainModel,
    of_plain_weights,
    rebuilt,
    write_model,
)


@final
@dataclass(frozen=True, kw_only=True)
class Merged(PlainModel):
    """The base with the technique in its weights."""

    rank: ClassVar[int] = 2

    def refusal(self, made: Customization) -> str | None:
        """Return None for a change of weights that are stored plainly."""
        if (reason := of_plain_weights(made)) is not None:
            return reason
        assert made.attached is not None
        if not made.attached.merge():
            return "it is more than a change of the base's weights"
        return None

    def write(self, made: Customization, folder: Path) -> None:
        """Write the model, its tokenizer and its chat template."""
        assert made.lm is not None
        lm = made.lm
        model = rebuilt(lm, copy.deepcopy(lm.model.config), lm.model.state_dict())
        write_model(model, lm.tokenizer, folder)
