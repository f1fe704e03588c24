"""Identity preference optimization: push the log-ratio of a pair to a fixed margin, not further.

    L = (h(y_w) - h(y_l) - 1 / (2 tau))^2,    h(y) = mean over tokens of log p / p_ref

Source: Azar, Rowland, Piot, Guo, Calandriello, Valko, Munos 2023, arXiv 2310.12036, equation 17.
The mean over tokens is not in the paper's text; its authors told TRL that its results used it.

Cost: that of DPO.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from annotated_types import Gt
from torch import Tensor

from savile.objectives.base_pairs import FromPairs


@final
@dataclass(frozen=True, kw_only=True)
class IPO(FromPairs):
    """Learn from preference pairs up to a margin, so that sure pairs do not run away."""

    needs: ClassVar[tuple[str, ...]] = ("preferences", "parameters")
    gives: ClassVar[tuple[str, ...]] = ("policy",)
    rate_factor: ClassVar[float] = 0.1
    per_token: ClassVar[bool] = True

    tau: Annotated[float, Gt(0)] = 0.1
    """Strength of the pull to the reference: the margin is 1 / (2 tau) nats a token."""

    def formula(self, measures: Tensor) -> Tensor:
        """Return equation 17 of each pair."""
        return (measures[:, 0] - measures[:, 1] - 1 / (2 * self.tau)).square()
