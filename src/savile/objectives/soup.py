"""A model soup: what is fine-tuned several times, in other orders of the rows, and averaged.

    theta = theta_0 + sum_i (theta_i - theta_0) / n = sum_i theta_i / n        i = 1 .. n copies

Source: Wortsman et al. 2022, arXiv 2203.05482, section 2, the uniform soup.

Differs from the paper: the copies divide one budget, and differ in the order of their rows alone,
not in learning rate or augmentation. What is averaged is the delta's own parameters. For LoRA that
is the mean of A and the mean of B (PEFT's `linear` with weights 1 / n^2), which is not the mean of
the updates B A but less than it by mean((B_i - mean B) (A_i - mean A)). That is nothing while A
stays at its start, and costs something where it does not (measured: docs/log.md).

Cost: the gradients of SFT; `copies` times its looks at dev, and that many states in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from annotated_types import Ge, Le
from torch import Tensor

from savile.lm.merging import linear, merge_changes
from savile.objectives.base_rows import FromRows


@final
@dataclass(frozen=True, kw_only=True)
class Soup(FromRows):
    """Average the weights of several trainings."""

    needs: ClassVar[tuple[str, ...]] = ("pairs", "parameters")
    gives: ClassVar[tuple[str, ...]] = ("policy",)

    copies: Annotated[int, Ge(1), Le(16)] = 3
    """Trainings that are averaged; they divide the budget."""

    def merged(
        self, states: Sequence[Mapping[str, Tensor]], start: Mapping[str, Tensor], seed: int
    ) -> dict[str, Tensor]:
        """Return the mean of the states."""
        return merge_changes(states, start, [1 / len(states)] * len(states), linear)
