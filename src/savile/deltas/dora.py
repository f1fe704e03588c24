"""DoRA: LoRA turns the direction of every output's weights, a trained magnitude sets their length.

    h = m / n * (W + s B A) x + b        n = |W + s B A|, one norm an output, as is m
                                         m = |W|, B = 0 at the start

Source: Liu, Wang, Yin, Molchanov, Wang, Cheng, Chen 2024, arXiv 2402.09353, equation 5; n gets no
gradient, as section 4.3 proposes (and PEFT does).

Differs from the paper: n comes from |w + s d|^2 = |w|^2 + 2 s w.d + s^2 |d|^2 for the rows w of W
and d of B A, so B A is never written out, and only after A or B changed; an output whose weights
are all zero gives its bias instead of NaN. Targets as in `lora`.

Cost: r * (in + out) + out trainable parameters and 2 * r * (in + out) extra forward FLOPs a token
and map; 2 * r * in * out FLOPs a map for n, once a step.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Self, final

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from torch.nn import functional

from savile.deltas.base import Attached, Delta, Peft, generator
from savile.lm import lowrank
from savile.lm.lowrank import LowRank
from savile.lm.model import LM
from savile.lm.sites import LinearSite

MAGNITUDE: Final = "lora_magnitude_vector"
"""PEFT's name of m."""


@final
@dataclass(frozen=True, kw_only=True)
class DoRA(Delta):
    """Weight-decomposed low-rank adaptation of the linear maps."""

    in_auto: ClassVar[bool] = False
    occupies: ClassVar[tuple[str, ...]] = ("linear maps", "weights")
    rate_at_4096: ClassVar[float] = 2e-4
    """LoRA's; the paper uses LoRA's rate or half of it."""

    r: Annotated[int, Ge(1), Le(1024)] = 8
    """Rank of the update."""
    lora_alpha: Annotated[float, Gt(0)] | None = None
    """Scale numerator; None means 2 * r."""
    use_rslora: bool = False
    """Scale by alpha / sqrt(r) instead of alpha / r."""
    target_modules: tuple[str, ...] | None = None
    """Last parts of module names, such as `q_proj`; None means every linear map of the trunk."""
    loraplus_lr_ratio: Annotated[float, Ge(1), Le(1000)] = 1.0
    """Learning rate of B and m divided by that of A, as in PEFT; LoRA+ recommends about 16."""
    learning_rate: Annotated[float, Gt(0), Le(10)] | None = None
    """Peak learning rate; None searches around 2e-4 * 4096 / width."""

    @property
    def scale(self) -> float:
        """The factor of B A."""
        alpha = 2.0 * self.r if self.lora_alpha is None else self.lora_alpha
        return lowrank.scale(self.r, alpha, self.use_rslora)

    def default_rate(self, lm: LM) -> float:
        """Return 2e-4 at width 4,096, in inverse proportion elsewhere; A's and B's rates have it as
        their geometric mean."""
        return self.rate_at_4096 * 4096 / lm.sites.width / math.sqrt(self.loraplus_lr_ratio)

    def attach(self, lm: LM, seed: int) -> Attached:
        """Attach A, B and m to every target map."""
        return _Attached(lm, self, seed)

    @classmethod
    def from_peft(cls, peft: Peft) -> tuple[Self, dict[str, Tensor]] | None:
        """Read PEFT's DoRA files (no other variant, no bias, one rank and scale)."""
        config = peft.config
        if not lowrank.is_low_rank(config) or not config.get("use_dora"):
            return None
        state = lowrank.own_tensors(peft.tensors)
        delta = cls(
            r=int(config["r"]),
            lora_alpha=float(config["lora_alpha"]),
            use_rslora=bool(config.get("use_rslora", False)),
            target_modules=lowrank.targets_of(config, state),
        )
        return delta, state


class _Attached(Attached):
    def __init__(self, lm: LM, delta: DoRA, seed: int) -> None:
        super().__init__(lm)
        self.delta = delta
        rng = generator(seed)
        self.pairs = LowRank(
            lm, delta.target_modules, lambda site: lowrank.kaiming(site, delta.r, rng), delta.scale
        )
        self.norms = {site.name: _Norm(self.pairs, site) for site in self.pairs.sites}
        self.magnitudes = {
            site.name: self.norms[site.name]().clone().requires_grad_() for site in self.pairs.sites
        }
        self.pairs.change_outputs(self._rescaled)

    def _ratio(self, site: LinearSite) -> Tensor:
        """Return m / n, float32 [out], differentiable in m."""
        return self.magnitudes[site.name] / self.norms[site.name]()

    def _rescaled(self, site: LinearSite, x: Tensor, h: Tensor) -> Tensor:
        ratio = self._ratio(site).to(h.dtype)
        update = self.pairs.scale * lowrank.product(x, *self.pairs.pairs[site.name])
        plain = h if site.bias is None else h - site.bias
        return h + (ratio - 1) * plain + ratio * update  # exactly h where m = n and B = 0

    def parameters(self) -> dict[str, Tensor]:
        own = {f"{name}.{MAGNITUDE}": m for name, m in self.magnitudes.items()}
        return self.pairs.parameters() | own

    def rate_factor(self, name: str) -> float:
        return 1.0 if name.endswith(lowrank.A) else self.delta.loraplus_lr_ratio

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        with self.pairs.off():
            yield

    def merge(self) -> bool:
        return self.pairs.fold(
            lambda site: (
                self._ratio(site)[:, None]
                * (lowrank.dense(self.lm, site) + self.pairs.matrix(site))
            )
        )

    def to_peft(self) -> Peft:
        config = self.pairs.peft_config(self.delta.r, self.delta.use_rslora)
        config["use_dora"] = True
        return Peft(config, lowrank.peft_tensors(self.state()))

    def detach(self) -> None:
        self.pairs.remove()


class _Norm:
    """|W + s B A| of one map's outputs, float32 [out], computed again when A or B changed."""

    def __init__(self, pairs: LowRank, site: LinearSite) -> None:
        self.pairs, self.site = pairs, site
        self.base_squared = lowrank.dense(pairs.lm, site).square().sum(1)
        self.versions = (-1, -1)
        self.norm = self.base_squared

    @torch.no_grad()
    def __call__(self) -> Tensor:
        a, b = self.pairs.pairs[self.site.name]
        versions = (a._version, b._version)  # counts changes in place
        if versions != self.versions:
            with torch.autocast(a.device.type, enabled=False):
                self.norm = self._computed(a, b)
            self.versions = versions
        return self.norm

    def _computed(self, a: Tensor, b: Tensor) -> Tensor:
        s, weight = self.pairs.scale, self.site.weight
        rows = a.to(weight.dtype)
        across = rows @ weight if self.site.transposed else functional.linear(rows, weight)
        mixed = (across.float().T * b).sum(1)
        update_squared = ((b @ (a @ a.T)) * b).sum(1)
        squared = self.base_squared + 2 * s * mixed + s * s * update_squared
        return squared.clamp(min=torch.finfo(torch.float32).tiny).sqrt()
