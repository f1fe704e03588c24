"""ORPO: supervised fine-tuning on the chosen answer and an odds ratio against the rejected one.

    L = - mean log p(y_w|x) - lambda * log sigmoid(log odds(y_w|x) - log odds(y_l|x))
    odds(y|x) = P / (1 - P),    log P = mean over tokens of log p(y_t | x, y_<t)

Source: Hong, Lee, Thorne 2024, arXiv 2403.07691, equations 3 to 7.

Differs from TRL, whose first term also runs over the prompt's tokens; here it is the answer's.

Cost: one tree of prompt, chosen and rejected a pair, forward and backward; no reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import torch
from annotated_types import Gt
from torch import Tensor
from torch.nn.functional import logsigmoid

from savile.objectives.base_pairs import FromPairs


@final
@dataclass(frozen=True, kw_only=True)
class ORPO(FromPairs):
    """Fine-tune and align in one go."""

    needs: ClassVar[tuple[str, ...]] = ("preferences", "parameters")
    gives: ClassVar[tuple[str, ...]] = ("policy",)
    refers: ClassVar[bool] = False
    per_token: ClassVar[bool] = True

    beta: Annotated[float, Gt(0)] = 0.1
    """Weight of the odds ratio (lambda in the paper)."""

    def formula(self, measures: Tensor) -> Tensor:
        """Return equation 6 of each pair."""
        odds = measures - _log1mexp(measures)
        return -measures[:, 0] - self.beta * logsigmoid(odds[:, 0] - odds[:, 1])


def _log1mexp(x: Tensor) -> Tensor:
    """Return log(1 - exp(x)) for x < 0, exact at both ends (Maechler 2012); x = 0 is taken as the
    nearest smaller number."""
    x = x.clamp(max=-torch.finfo(x.dtype).tiny)
    near = x > -0.6931471805599453
    small = torch.where(near, x, torch.full_like(x, -1.0))
    large = torch.where(near, torch.full_like(x, -1.0), x)
    return torch.where(near, torch.log(-torch.expm1(small)), torch.log1p(-torch.exp(large)))
