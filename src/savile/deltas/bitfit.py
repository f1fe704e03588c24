"""BitFit: the biases train, all else is frozen.

    h = W x + b        b trained

Source: Ben Zaken, Ravfogel, Goldberg 2021, arXiv 2106.10199, section 3.

Differs from the paper: its models have a bias in every map and norm. A base that has biases trains
exactly those (Qwen 2: those of queries, keys and values). A base that has none at all (Llama,
Mistral, Gemma) gets one, zero at the start, after every linear map of the trunk; those are no part
of its architecture, so they cannot be merged.

Cost: one trained parameter for each output feature of a map, and of a norm that has a bias;
training takes the 4 * N FLOPs a token of a frozen base.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import torch
from annotated_types import Gt, Le
from torch import Tensor

from savile.deltas.base import Attached, Delta, Hooked, InPlace
from savile.lm.changes import change_output
from savile.lm.model import LM


@final
@dataclass(frozen=True, kw_only=True)
class BitFit(Delta):
    """Train the biases."""

    in_auto: ClassVar[bool] = False
    occupies: ClassVar[tuple[str, ...]] = ("weights",)
    rate_at_4096: ClassVar[float] = 1e-3
    """Rate at a width of 4,096; smaller models want it larger in proportion (measured:
    docs/log.md)."""

    learning_rate: Annotated[float, Gt(0), Le(10)] | None = None
    """Peak learning rate; None searches around 1e-3 * 4096 / width."""

    def default_rate(self, lm: LM) -> float:
        """Return 1e-3 at width 4,096, in inverse proportion elsewhere."""
        return self.rate_at_4096 * 4096 / lm.sites.hidden_size

    def attach(self, lm: LM, seed: int) -> Attached:
        """Make the base's biases trainable, or add zeros; nothing is drawn at random."""
        return _Own(lm, lm.sites.biases()) if lm.sites.biases() else _Added(lm)


class _Own(InPlace):
    """The biases of the base."""

    def to_peft(self) -> None:
        return None  # exported as a whole model


class _Added(Hooked):
    """Biases beside the linear maps of a base that has none."""

    def __init__(self, lm: LM) -> None:
        super().__init__(lm)
        self.own: dict[str, Tensor] = {}
        for site in lm.sites.linear_maps():
            bias = torch.zeros(site.out_features, device=lm.device).requires_grad_()
            self.own[f"{site.name}.bias"] = bias
            self.hooks.append(change_output(site, _Bias(self, bias)))

    def parameters(self) -> dict[str, Tensor]:
        return dict(self.own)

    def merge(self) -> bool:
        return False  # the base's maps have no place for a bias

    def to_peft(self) -> None:
        return None


class _Bias:
    """The bias of one map, off while its owner is disabled."""

    def __init__(self, owner: _Added, bias: Tensor) -> None:
        self.owner, self.bias = owner, bias

    def __call__(self, x: Tensor, h: Tensor) -> Tensor:
        return h + self.bias.to(h.dtype) if self.owner.enabled else h
