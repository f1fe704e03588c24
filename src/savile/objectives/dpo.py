"""Direct preference optimization: chosen answers become likelier than rejected, near a reference.

    L = - log sigmoid(beta * [m(y_w) - m(y_l)]),    m(y) = log p(y|x) - log p_ref(y|x)

Source: Rafailov, Sharma, Mitchell, Ermon, Manning, Finn 2023, arXiv 2305.18290, equation 7; label
smoothing (conservative DPO): Mitchell 2023.

Cost: one tree of prompt, chosen and rejected a pair, forward and backward; the reference costs one
forward pass over the pairs before the first step and no memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from annotated_types import Ge, Gt, Lt
from torch import Tensor
from torch.nn.functional import logsigmoid

from savile.objectives.base_pairs import FromPairs


@final
@dataclass(frozen=True, kw_only=True)
class DPO(FromPairs):
    """Learn from preference pairs without a reward model."""

    needs: ClassVar[tuple[str, ...]] = ("preferences", "parameters")
    gives: ClassVar[tuple[str, ...]] = ("policy",)
    rate_factor: ClassVar[float] = 0.1

    beta: Annotated[float, Gt(0)] = 0.1
    """How strongly the policy is held at the reference; larger stays closer."""
    label_smoothing: Annotated[float, Ge(0), Lt(0.5)] = 0.0
    """Share of pairs that are assumed to be judged the wrong way round."""

    def formula(self, measures: Tensor) -> Tensor:
        """Return equation 7 of each pair."""
        logits = self.beta * (measures[:, 0] - measures[:, 1])
        right, wrong = logsigmoid(logits), logsigmoid(-logits)
        return -(1 - self.label_smoothing) * right - self.label_smoothing * wrong
