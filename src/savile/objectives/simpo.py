"""SimPO: preferences by the mean log-probability of a token, with a margin and without a reference.

    L = - log sigmoid(beta / |y_w| * log p(y_w|x) - beta / |y_l| * log p(y_l|x) - gamma)

Source: Meng, Xia, Chen 2024, arXiv 2405.14734, equation 6.

Cost: one tree of prompt, chosen and rejected a pair, forward and backward; no reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn.functional import logsigmoid

from savile.objectives.base_pairs import FromPairs


@final
@dataclass(frozen=True, kw_only=True)
class SimPO(FromPairs):
    """Learn from preference pairs by what generation maximizes; length gives no advantage."""

    needs: ClassVar[tuple[str, ...]] = ("preferences", "parameters")
    gives: ClassVar[tuple[str, ...]] = ("policy",)
    rate_factor: ClassVar[float] = 0.1
    refers: ClassVar[bool] = False
    per_token: ClassVar[bool] = True

    beta: Annotated[float, Gt(0)] = 2.0
    """Scale of the rewards."""
    gamma_beta_ratio: Annotated[float, Ge(0)] = 0.5
    """The margin gamma as a multiple of beta."""

    def formula(self, measures: Tensor) -> Tensor:
        """Return equation 6 of each pair."""
        ahead = measures[:, 0] - measures[:, 1]
        return -logsigmoid(self.beta * (ahead - self.gamma_beta_ratio))
