"""DARE: what is fine-tuned several times loses most of its changes at random, and is averaged.

    m_i ~ Bernoulli(density) of every entry;        t_i = m_i (theta_i - theta_0) / density
    theta = theta_0 + mean of the t_i

Source: Yu, Yu, Yu, Huang, Li 2024, arXiv 2311.03099, section 3, equations 1 and 2, then the average
of its task arithmetic; the paper's drop rate p is 1 - density.

Differs from the paper: what is merged are copies of one task, in other orders of its rows, that
divide one budget, not models of several tasks. For LoRA, changes of the factors A and B are
dropped, not of the updates B A, so the expectation of B A stays that of the soup; PEFT's
`dare_linear` drops entries of the factors themselves, the start of A included.

Cost: the gradients of SFT; `copies` times its looks at dev, and that many states in memory.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from savile.lm.merging import dare, linear, merge_changes
from savile.objectives.base_rows import FromRows


@final
@dataclass(frozen=True, kw_only=True)
class DARE(FromRows):
    """Average several trainings after dropping some of their changes at random."""

    needs: ClassVar[tuple[str, ...]] = ("pairs", "parameters")
    gives: ClassVar[tuple[str, ...]] = ("policy",)

    copies: Annotated[int, Ge(1), Le(16)] = 3
    """Trainings that are averaged; they divide the budget."""
    density: Annotated[float, Gt(0), Le(1)] = 0.5
    """Share of the changes that stay; those are divided by it."""

    def merged(
        self, states: Sequence[Mapping[str, Tensor]], start: Mapping[str, Tensor], seed: int
    ) -> dict[str, Tensor]:
        """Drop changes at random, drawn from the seed, rescale the others, average."""
        rng = torch.Generator().manual_seed(seed)
        how = functools.partial(dare, density=self.density, rng=rng, then=linear)
        return merge_changes(states, start, [1 / len(states)] * len(states), how)
