"""Full fine-tuning: every parameter of the model trains.

Source: the usual practice since Howard & Ruder 2018, arXiv 1801.06146, and Radford et al. 2018.
One base serves all techniques, so the original weights are kept aside while this one trains and put
back afterwards.

Cost: all N parameters trained, their copy, and two moments each in the optimizer;
6 * N FLOPs a token instead of the 4 * N of a frozen base.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from annotated_types import Gt, Le

from savile.deltas.base import Attached, Delta, InPlace
from savile.lm.model import LM


@final
@dataclass(frozen=True, kw_only=True)
class Full(Delta):
    """Train all parameters."""

    needs: ClassVar[tuple[str, ...]] = ("plain_weights",)
    occupies: ClassVar[tuple[str, ...]] = ("weights",)
    rate_at_4096: ClassVar[float] = 2e-5
    """Usual rate at a width of 4,096; smaller models want it larger in proportion (measured:
    docs/log.md)."""

    learning_rate: Annotated[float, Gt(0), Le(1)] | None = None
    """Peak learning rate; None searches around 2e-5 * 4096 / width."""

    def default_rate(self, lm: LM) -> float:
        """Return 2e-5 at width 4,096, in inverse proportion elsewhere."""
        return self.rate_at_4096 * 4096 / lm.sites.width

    def attach(self, lm: LM, seed: int) -> Attached:
        """Make every parameter trainable; nothing is drawn at random."""
        return _Attached(lm, dict(lm.model.named_parameters()))


class _Attached(InPlace):
    def to_peft(self) -> None:
        return None  # exported as a whole model
