"""Supervised fine-tuning: the mean negative log-likelihood of the answers' tokens.

    L = - sum_i w_i log p(y_i | x, y_<i) / sum_i w_i        over answer tokens, end of turn included

Source: the language-model loss of Radford et al. 2018 on (instruction, answer) rows as in Ouyang
et al. 2022, arXiv 2203.02155, section 3.5. Prompt tokens carry no weight; the mean runs over the
tokens of the whole optimizer step, not of each row (as transformers' Trainer and TRL do).

Cost: one forward and backward pass over the tree; logits at answer tokens alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from savile.objectives.base_rows import FromRows


@final
@dataclass(frozen=True, kw_only=True)
class SFT(FromRows):
    """Learn the wanted answers by heart and rule."""

    needs: ClassVar[tuple[str, ...]] = ("pairs", "parameters")
    gives: ClassVar[tuple[str, ...]] = ("policy",)
