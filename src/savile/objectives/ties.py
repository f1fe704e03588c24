"""TIES: what is fine-tuned several times is trimmed to its largest changes, and merged where the
copies agree on a sign.

    t_i = theta_i - theta_0; all but the largest `density` of each tensor's entries become 0
    s   = sign(sum_i t_i)                                       the elected sign of every entry
    theta = theta_0 + mean of the t_i whose sign is s           0 where there is none

Source: Yadav, Tam, Choshen, Raffel, Bansal 2023, arXiv 2306.01708, section 4, with lambda = 1.

Differs from the paper: what is merged are copies of one task, in other orders of its rows, that
divide one budget, not models of several tasks, so fewer changes are noise to the others and half
stay, not 20 % (measured: docs/log.md); each tensor is trimmed by itself, as in PEFT, not the vector
of all. For LoRA, changes of the factors A and B are merged, not of the updates B A. PEFT's `ties`
merges the factors themselves, which is the same where they start at 0, as B does.

Cost: the gradients of SFT; `copies` times its looks at dev, and that many states in memory.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from annotated_types import Ge, Gt, Le
from torch import Tensor

from savile.lm.merging import merge_changes, ties
from savile.objectives.base_rows import FromRows


@final
@dataclass(frozen=True, kw_only=True)
class TIES(FromRows):
    """Merge the large changes that several trainings agree on."""

    needs: ClassVar[tuple[str, ...]] = ("pairs", "parameters")
    gives: ClassVar[tuple[str, ...]] = ("policy",)

    copies: Annotated[int, Ge(1), Le(16)] = 3
    """Trainings that are merged; they divide the budget."""
    density: Annotated[float, Gt(0), Le(1)] = 0.5
    """Share of each tensor's changes that stay, the largest (the paper's k)."""

    def merged(
        self, states: Sequence[Mapping[str, Tensor]], start: Mapping[str, Tensor], seed: int
    ) -> dict[str, Tensor]:
        """Trim, elect signs, average what agrees."""
        how = functools.partial(ties, density=self.density)
        return merge_changes(states, start, [1.0] * len(states), how)
