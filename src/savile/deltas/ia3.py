"""(IA)3: learned vectors rescale keys, values and the inner activations of the feed-forward.

    k <- l_k * k,    v <- l_v * v,    a <- l_ff * a        all l = 1 at the start

a is what the feed-forward's last map reads.

Source: Liu, Tam, Muqeeth, Mohta, Huang, Bansal, Raffel 2022, arXiv 2205.05638, section 3.3.

Differs from the paper: AdamW instead of Adafactor, and no unlikelihood and length-normalized losses
(the objective is another axis). A family that computes queries, keys and values in one map (GPT-2,
GPT-NeoX, Bloom) has the whole map rescaled, as in PEFT. PEFT's own targets for Qwen and Gemma are
queries and values; here they are the paper's everywhere.

Cost: one trained parameter and one extra forward FLOP a token for each rescaled feature; nothing
when merged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Self, final

import torch
from annotated_types import Gt, Le, MinLen
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from savile.deltas.base import Attached, Delta, Hooked, Peft
from savile.lm.changes import change_input, change_output
from savile.lm.model import LM
from savile.lm.names import PEFT_PREFIX, named, shortened
from savile.lm.sites import LinearSite

KEY: Final = "ia3_l"
"""PEFT's name of a vector."""


@final
@dataclass(frozen=True, kw_only=True)
class IA3(Delta):
    """Infused adapter by inhibiting and amplifying inner activations."""

    in_auto: ClassVar[bool] = False
    rate_at_4096: ClassVar[float] = 2e-3
    """Rate at a width of 4,096; smaller models want it larger in proportion (measured:
    docs/log.md)."""

    target_modules: Annotated[tuple[str, ...], MinLen(1)] | None = None
    """Last parts of the names of the maps to rescale, such as `k_proj`; None finds those of keys
    and values, and the last of the feed-forward."""
    feedforward_modules: tuple[str, ...] | None = None
    """Those of the targets whose input is rescaled and not their output; None finds the last map
    of the feed-forward."""
    learning_rate: Annotated[float, Gt(0), Le(10)] | None = None
    """Peak learning rate; None searches around 2e-3 * 4096 / width."""

    def default_rate(self, lm: LM) -> float:
        """Return 2e-3 at width 4,096, in inverse proportion elsewhere."""
        return self.rate_at_4096 * 4096 / lm.sites.hidden_size

    def attach(self, lm: LM, seed: int) -> Attached:
        """Attach a vector of ones to every target; nothing is drawn at random."""
        return _Attached(lm, self)

    @classmethod
    def from_peft(cls, peft: Peft) -> tuple[Self, dict[str, Tensor]] | None:
        """Read PEFT's (IA)3 files whose modules are listed, not described by a pattern."""
        config = peft.config
        targets, inner = config.get("target_modules"), config.get("feedforward_modules")
        other = config.get("peft_type") != "IA3" or config.get("modules_to_save")
        if other or not isinstance(targets, list) or not isinstance(inner, list):
            return None
        delta = cls(target_modules=tuple(sorted(targets)), feedforward_modules=tuple(sorted(inner)))
        state = {k.removeprefix(PEFT_PREFIX): v.float() for k, v in peft.tensors.items()}
        return delta, state


class _Attached(Hooked):
    def __init__(self, lm: LM, delta: IA3) -> None:
        super().__init__(lm)
        sites, inner = _targets(lm, delta)
        self.scales = {site.name: _Scale(self, site, site.name in inner) for site in sites}
        self.hooks += [scale.hook() for scale in self.scales.values()]

    def parameters(self) -> dict[str, Tensor]:
        return {f"{name}.{KEY}": scale.vector for name, scale in self.scales.items()}

    def merge(self) -> bool:
        if self.lm.quantization is not None:
            return False
        if self.enabled:
            for scale in self.scales.values():
                scale.merge()
        self.enabled = False
        return True

    def to_peft(self) -> Peft:
        inner = [scale.site.name for scale in self.scales.values() if scale.inner]
        known = [site.name for site in self.lm.sites.linear_maps()]
        config = {
            "peft_type": "IA3",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.lm.name,
            "target_modules": shortened(self.scales, known),
            "feedforward_modules": shortened(inner, known),
            "fan_in_fan_out": any(scale.site.transposed for scale in self.scales.values()),
            "inference_mode": True,
        }
        return Peft(config, {f"{PEFT_PREFIX}{k}": v for k, v in self.state().items()})

    def detach(self) -> None:
        super().detach()
        for scale in self.scales.values():
            scale.restore()


class _Scale:
    """The vector of one map, off while its owner is disabled."""

    def __init__(self, owner: _Attached, site: LinearSite, inner: bool) -> None:
        self.site, self.inner, self._owner = site, inner, owner
        shape = (1, site.in_features) if inner else (site.out_features, 1)  # PEFT's
        self.vector = torch.ones(shape, device=owner.lm.device).requires_grad_()
        self._merged: list[tuple[Tensor, Tensor]] = []

    def hook(self) -> RemovableHandle:
        """Rescale the map's input or output."""
        if self.inner:
            return change_input(self.site, self._scaled)
        return change_output(self.site, lambda x, h: self._scaled(h))

    def _scaled(self, a: Tensor) -> Tensor:
        return (a * self.vector.flatten()).to(a.dtype) if self._owner.enabled else a

    @torch.no_grad()
    def merge(self) -> None:
        """Fold the vector into the map's weight and bias."""
        weight = self.site.weight
        self._change(weight, self.vector.T if self.site.transposed else self.vector)
        if self.site.bias is not None and not self.inner:
            self._change(self.site.bias, self.vector.flatten())

    def _change(self, own: Tensor, factor: Tensor) -> None:
        self._merged.append((own, own.clone()))
        own.copy_(own * factor)

    @torch.no_grad()
    def restore(self) -> None:
        """Take the vector out again, to the bit."""
        while self._merged:
            own, before = self._merged.pop()
            own.copy_(before)


def _targets(lm: LM, delta: IA3) -> tuple[list[LinearSite], frozenset[str]]:
    """Return the maps to rescale, and the names of those whose input is."""
    maps = {site.name: site for site in lm.sites.linear_maps()}
    if delta.target_modules is None:
        outputs = [*lm.sites.key_value_maps(), *lm.sites.feed_forward_outputs()]
        chosen = [site.name for site in outputs]
    else:
        chosen = named(delta.target_modules, maps, "target_modules")
    if delta.feedforward_modules is None:
        inner = [site.name for site in lm.sites.feed_forward_outputs()]
    else:
        inner = named(delta.feedforward_modules, chosen, "feedforward_modules")
    return [maps[name] for name in chosen], frozenset(inner)
