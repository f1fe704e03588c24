"""Bottleneck adapters: a small network with one narrow layer in every layer of a frozen base.

    h <- h + s * (U f(D v + b) + c)     D: [m, width], U: [width, m], m = width // reduction_factor

    double_seq_bn    v = h, the output of the attention and of the feed-forward, before the residual
    seq_bn           v = h, the output of the feed-forward alone
    par_bn           v = the input of the feed-forward, h its output, s = 4

Source: Houlsby, Giurgiu, Jastrzebski, Morrone, de Laroussilhe, Gesmundo, Attariyan, Gelly 2019,
arXiv 1902.00751, section 2.1 (`double_seq_bn`); Pfeiffer, Kamath, Rücklé, Cho, Gurevych 2020, arXiv
2005.00247 (`seq_bn`); He, Zhou, Ma, Berg-Kirkpatrick, Neubig 2021, arXiv 2110.04366,
table 1 (`par_bn`). Names and settings are those of AdapterHub's library.

Differs from the papers: U, b and c start at zero as in He et al., so training starts exactly from
the base, where Houlsby et al. start near it from small noise; D starts Kaiming-uniform. The base's
norms stay frozen (Houlsby et al. train them). A family that normalizes a block's output before the
residual (Gemma 2) does so after the adapter. One reduction factor for all placements, where
AdapterHub gives `par_bn` one of 2.

Cost: 2 * m * width + m + width trained parameters and 4 * m * width extra forward FLOPs a token
for each adapter: one a layer, two with `double_seq_bn`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal, NamedTuple, final

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.nn import functional

from savile.deltas.base import Attached, Delta, Hooked, generator
from savile.lm.changes import change_block
from savile.lm.model import LM

NON_LINEARITIES: Final[Mapping[str, Callable[[Tensor], Tensor]]] = {
    "relu": torch.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "swish": functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


class Placement(NamedTuple):
    """Where adapters stand."""

    attention: bool
    """Whether the attention has one too."""
    parallel: bool
    """Whether it reads the block's input and not its output."""
    scaling: float
    """The paper's s."""


PLACEMENTS: Final[Mapping[str, Placement]] = {
    "double_seq_bn": Placement(attention=True, parallel=False, scaling=1.0),
    "seq_bn": Placement(attention=False, parallel=False, scaling=1.0),
    "par_bn": Placement(attention=False, parallel=True, scaling=4.0),
}


@final
@dataclass(frozen=True, kw_only=True)
class Bottleneck(Delta):
    """Bottleneck adapters in the decoder layers."""

    rate_at_4096: ClassVar[float] = 4e-4
    """Rate at a width of 4,096; smaller models want it larger in proportion (measured:
    docs/log.md)."""

    placement: Literal["double_seq_bn", "seq_bn", "par_bn"] = "double_seq_bn"
    """After attention and feed-forward (Houlsby), after the feed-forward (Pfeiffer), or beside it
    (He)."""
    reduction_factor: Annotated[float, Ge(1)] = 16.0
    """The model's width divided by that of the narrow layer."""
    non_linearity: Literal["relu", "gelu", "silu", "swish", "tanh", "sigmoid"] = "swish"
    """What stands between the two maps; swish is another name of silu."""
    scaling: Annotated[float, Gt(0)] | None = None
    """Factor of what an adapter adds; None means the paper's, 4 for `par_bn` and 1 elsewhere."""
    bias: bool = True
    """Whether the two maps have biases."""
    learning_rate: Annotated[float, Gt(0), Le(10)] | None = None
    """Peak learning rate; None searches around 4e-4 * 4096 / width."""

    def default_rate(self, lm: LM) -> float:
        """Return 4e-4 at width 4,096, in inverse proportion elsewhere."""
        return self.rate_at_4096 * 4096 / lm.sites.hidden_size

    def attach(self, lm: LM, seed: int) -> Attached:
        """Attach an adapter to every block of the placement."""
        return _Attached(lm, self, seed)


class _Attached(Hooked):
    def __init__(self, lm: LM, delta: Bottleneck, seed: int) -> None:
        super().__init__(lm)
        place, rng = PLACEMENTS[delta.placement], generator(seed)
        attentions = lm.sites.attention_blocks() if place.attention else []
        blocks = [*attentions, *lm.sites.feed_forward_blocks()]
        self.adapters = {block.name: _Adapter(self, delta, rng) for block in blocks}
        for block in blocks:
            self.hooks += change_block(block, self.adapters[block.name])

    def parameters(self) -> dict[str, Tensor]:
        return {
            f"{block}.{name}": tensor
            for block, adapter in self.adapters.items()
            for name, tensor in adapter.tensors.items()
        }

    def merge(self) -> bool:
        return False  # its non-linearity is no part of the base

    def to_peft(self) -> None:
        return None


class _Adapter:
    """The adapter of one block, off while its owner is disabled."""

    def __init__(self, owner: _Attached, delta: Bottleneck, rng: torch.Generator) -> None:
        place, width = PLACEMENTS[delta.placement], owner.lm.sites.hidden_size
        narrow = max(1, int(width / delta.reduction_factor))
        down = nn.init.kaiming_uniform_(torch.empty(narrow, width), a=math.sqrt(5), generator=rng)
        start = {"adapter_down.weight": down, "adapter_up.weight": torch.zeros(width, narrow)}
        if delta.bias:
            start |= {"adapter_down.bias": torch.zeros(narrow)}
            start |= {"adapter_up.bias": torch.zeros(width)}
        self.tensors = {k: v.to(owner.lm.device).requires_grad_() for k, v in start.items()}
        self._owner, self._parallel = owner, place.parallel
        self._f = NON_LINEARITIES[delta.non_linearity]
        self._scaling = place.scaling if delta.scaling is None else delta.scaling

    def __call__(self, x: Tensor, h: Tensor) -> Tensor:
        if not self._owner.enabled:
            return h
        cast = {name: tensor.to(h.dtype) for name, tensor in self.tensors.items()}
        narrow = functional.linear(
            x if self._parallel else h, cast["adapter_down.weight"], cast.get("adapter_down.bias")
        )
        up = functional.linear(
            self._f(narrow), cast["adapter_up.weight"], cast.get("adapter_up.bias")
        )
        return h + self._scaling * up
