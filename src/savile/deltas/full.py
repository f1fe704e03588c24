"""Full fine-tuning: every parameter of the model trains.

Source: the usual practice since Howard & Ruder 2018, arXiv 1801.06146, and Radford et al. 2018.
One base serves all techniques, so the original weights are kept aside while this one trains and put
back afterwards.

Cost: all N parameters trained, their copy, and two moments each in the optimizer;
6 * N FLOPs a token instead of the 4 * N of a frozen base.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import torch
from annotated_types import Gt, Le
from torch import Tensor

from savile.deltas.base import Attached, Delta
from savile.lm.model import LM


@final
@dataclass(frozen=True, kw_only=True)
class Full(Delta):
    """Train all parameters."""

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
        return _Attached(lm)


class _Attached(Attached):
    def __init__(self, lm: LM) -> None:
        super().__init__(lm)
        self._base = {k: p.detach().clone() for k, p in lm.model.named_parameters()}
        self._own = {k: p.requires_grad_() for k, p in lm.model.named_parameters()}

    def parameters(self) -> dict[str, Tensor]:
        return dict(self._own)

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def merge(self) -> bool:
        return True  # the weights are the model already

    def to_peft(self) -> None:
        return None  # exported as a whole model

    @torch.no_grad()
    def detach(self) -> None:
        for name, parameter in self._own.items():
            parameter.copy_(self._base[name]).requires_grad_(False)
            parameter.grad = None

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._own.items():
            kept = parameter.detach().clone()
            parameter.copy_(self._base[name])
            self._base[name] = kept
