"""Partial fine-tuning: the last layers of the model train, those before them are frozen.

    theta = (theta_1 .. theta_{L-n} frozen, theta_{L-n+1} .. theta_L and the final norm trained)

Source: Lee, Tang, Lin 2019, arXiv 1911.03090: the last quarter of the layers reaches about 90 % of
the quality of all.

Differs from the paper: there is no task head; the embeddings and the output head, one matrix in
many models, stay frozen.

Cost: n layers of trained parameters, their copy, and two moments each in the optimizer; the
backward pass ends at the first layer that trains: 2 * N + 4 * N * n / L FLOPs a token, and 6 * N *
n / L for tokens that an earlier pass over the data has seen (`lm/features.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from annotated_types import Ge, Gt, Le

from savile.deltas.base import Attached, Delta, InPlace
from savile.errors import Problem, UsageError
from savile.lm.model import LM


@final
@dataclass(frozen=True, kw_only=True)
class LastLayers(Delta):
    """Train the last decoder layers and the final norm."""

    needs: ClassVar[tuple[str, ...]] = ("plain_weights",)
    in_auto: ClassVar[bool] = False
    occupies: ClassVar[tuple[str, ...]] = ("weights",)
    rate_at_4096: ClassVar[float] = 1e-4
    """Rate at a width of 4,096; smaller models want it larger in proportion (measured:
    docs/log.md)."""

    n: Annotated[int, Ge(1)] | None = None
    """How many layers train; None means a quarter of them."""
    learning_rate: Annotated[float, Gt(0), Le(1)] | None = None
    """Peak learning rate; None searches around 1e-4 * 4096 / width."""

    def default_rate(self, lm: LM) -> float:
        """Return 1e-4 at width 4,096, in inverse proportion elsewhere."""
        return self.rate_at_4096 * 4096 / lm.sites.hidden_size

    def attach(self, lm: LM, seed: int) -> Attached:
        """Make the last layers trainable; nothing is drawn at random."""
        layers = list(lm.sites.layers())
        n = max(1, len(layers) // 4) if self.n is None else self.n
        if n > len(layers):
            raise UsageError(
                Problem(
                    what="the base has fewer layers than are to be trained",
                    where="n",
                    found=str(n),
                    expected=f"1 to {len(layers)}",
                )
            )
        return _Attached(lm, lm.sites.parameters_of([*layers[-n:], *lm.sites.final_norms()]))


class _Attached(InPlace):
    def to_peft(self) -> None:
        return None  # exported as a whole model
