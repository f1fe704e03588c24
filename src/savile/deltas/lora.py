"""LoRA: a low-rank update beside every linear map of a frozen base.

    h = W x + (alpha / r) * B A x        A: [r, in], B: [out, r], B = 0 at the start

Source: Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen 2021, arXiv 2106.09685, equation 3;
rsLoRA's scale alpha / sqrt(r): Kalajdzievski 2023, arXiv 2312.03732.

Differs from the paper: A starts Kaiming-uniform as in PEFT (the paper draws from a Gaussian), and
all linear maps of the trunk are targets (QLoRA, arXiv 2305.14314, section 4) instead of the
attention alone.

Cost: r * (in + out) trainable parameters and 2 * r * (in + out) extra forward FLOPs a token and
map.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Self, final

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.nn import functional

from savile.deltas.base import Attached, Delta, Peft, generator
from savile.errors import Problem, UsageError
from savile.lm.model import LM
from savile.lm.sites import LinearSite, change_output

PREFIX: Final = "base_model.model."
"""What PEFT writes before a module's name."""
VARIANTS: Final = ("use_dora", "lora_bias", "rank_pattern", "alpha_pattern", "modules_to_save")
"""Settings of PEFT's files that mean another method than this one."""


@final
@dataclass(frozen=True, kw_only=True)
class LoRA(Delta):
    """Low-rank adaptation of the linear maps."""

    rate_at_4096: ClassVar[float] = 2e-4
    """Usual rate at a width of 4,096; smaller models want it larger in proportion (measured:
    docs/log.md)."""

    r: Annotated[int, Ge(1), Le(1024)] = 8
    """Rank of the update."""
    lora_alpha: Annotated[float, Gt(0)] | None = None
    """Scale numerator; None means 2 * r."""
    use_rslora: bool = False
    """Scale by alpha / sqrt(r) instead of alpha / r."""
    target_modules: tuple[str, ...] | None = None
    """Last parts of module names, such as `q_proj`; None means every linear map of the trunk."""
    learning_rate: Annotated[float, Gt(0), Le(10)] | None = None
    """Peak learning rate; None searches around 2e-4 * 4096 / width."""

    @property
    def scale(self) -> float:
        """The factor of B A x."""
        alpha = 2.0 * self.r if self.lora_alpha is None else self.lora_alpha
        return alpha / (math.sqrt(self.r) if self.use_rslora else self.r)

    def default_rate(self, lm: LM) -> float:
        """Return 2e-4 at width 4,096, in inverse proportion elsewhere."""
        return self.rate_at_4096 * 4096 / lm.sites.width

    def attach(self, lm: LM, seed: int) -> Attached:
        """Attach A and B to every target map."""
        return _Attached(lm, self, seed)

    @classmethod
    def from_peft(cls, peft: Peft) -> tuple[Self, dict[str, Tensor]] | None:
        """Read PEFT's LoRA files (no variant such as DoRA, no bias, one rank and scale)."""
        config = peft.config
        plain = config.get("bias", "none") == "none" and not any(map(config.get, VARIANTS))
        if config.get("peft_type") != "LORA" or not plain:
            return None
        targets = config.get("target_modules") or "all-linear"
        delta = cls(
            r=int(config["r"]),
            lora_alpha=float(config["lora_alpha"]),
            use_rslora=bool(config.get("use_rslora", False)),
            target_modules=None if isinstance(targets, str) else tuple(sorted(targets)),
        )
        state = {
            re.sub(r"^base_model\.model\.(.*)\.weight$", r"\1", name): tensor.float()
            for name, tensor in peft.tensors.items()
        }
        return delta, state


class _Attached(Attached):
    def __init__(self, lm: LM, delta: LoRA, seed: int) -> None:
        super().__init__(lm)
        self.delta = delta
        self.enabled = True
        rng = generator(seed)
        self.sites = _targets(lm, delta.target_modules)
        self.a: dict[str, Tensor] = {}
        self.b: dict[str, Tensor] = {}
        self._merged: dict[str, Tensor] = {}
        for site in self.sites:
            a = torch.empty(delta.r, site.in_features)
            nn.init.kaiming_uniform_(a, a=math.sqrt(5), generator=rng)
            self.a[site.name] = a.to(lm.device).requires_grad_()
            b = torch.zeros(site.out_features, delta.r, device=lm.device)
            self.b[site.name] = b.requires_grad_()
        self._hooks = [change_output(site, self._update(site.name)) for site in self.sites]

    def _update(self, name: str) -> _Update:
        return _Update(self, name)

    def parameters(self) -> dict[str, Tensor]:
        named = {}
        for site in self.sites:
            named[f"{site.name}.lora_A"] = self.a[site.name]
            named[f"{site.name}.lora_B"] = self.b[site.name]
        return named

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        self.enabled, before = False, self.enabled
        try:
            yield
        finally:
            self.enabled = before

    @torch.no_grad()
    def merge(self) -> bool:
        if self._merged:
            return True
        for site in self.sites:
            weight = site.weight
            self._merged[site.name] = weight.clone()
            update = self.delta.scale * (self.b[site.name] @ self.a[site.name])
            weight += (update.T if site.transposed else update).to(weight.dtype)
        self.enabled = False
        return True

    def to_peft(self) -> Peft:
        delta = self.delta
        targets = sorted({site.name.rsplit(".", 1)[-1] for site in self.sites})
        config = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.lm.name,
            "r": delta.r,
            "lora_alpha": delta.scale * (math.sqrt(delta.r) if delta.use_rslora else delta.r),
            "lora_dropout": 0.0,
            "use_rslora": delta.use_rslora,
            "target_modules": targets,
            "bias": "none",
            "fan_in_fan_out": any(site.transposed for site in self.sites),
            "inference_mode": True,
        }
        return Peft(config, {f"{PREFIX}{k}.weight": v for k, v in self.state().items()})

    @torch.no_grad()
    def detach(self) -> None:
        for hook in self._hooks:
            hook.remove()
        for site in self.sites:
            if site.name in self._merged:
                site.weight.copy_(self._merged.pop(site.name))


class _Update:
    """The low-rank update of one map, off while its owner is disabled."""

    def __init__(self, owner: _Attached, name: str) -> None:
        self.owner, self.name = owner, name

    def __call__(self, x: Tensor, h: Tensor) -> Tensor:
        owner = self.owner
        if not owner.enabled:
            return h
        a, b = owner.a[self.name].to(x.dtype), owner.b[self.name].to(x.dtype)
        low = functional.linear(x.flatten(0, -2), a)
        out = torch.addmm(h.flatten(0, -2), low, b.T, alpha=owner.delta.scale)
        return out.view(h.shape)


def _targets(lm: LM, wanted: tuple[str, ...] | None) -> list[LinearSite]:
    """Return the linear maps whose name ends in one of `wanted`, all when None."""
    sites = lm.sites.linear_maps()
    known = {site.name.rsplit(".", 1)[-1] for site in sites}
    missing = sorted(set(wanted or ()) - known)
    if missing or wanted == ():
        raise UsageError(
            Problem(
                what="the base has no linear map of that name",
                where="target_modules",
                found=", ".join(missing) or "no name at all",
                expected=", ".join(sorted(known)),
            )
        )
    return [s for s in sites if wanted is None or s.name.rsplit(".", 1)[-1] in wanted]
