"""Low-rank updates of linear maps: the ground on which LoRA and its relatives stand.

    s * B A        A: [R, in], B: [out, R], s = alpha / R

A relative says how its pairs (A, B) start and how they change a map's output. The pairs, the hooks,
the weights that a merge replaces, and PEFT's names are here.

Source: Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen 2021, arXiv 2106.09685, equation 3; the
scale alpha / sqrt(R): Kalajdzievski 2023, arXiv 2312.03732.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from savile.errors import Problem, UsageError
from savile.lm.changes import change_output
from savile.lm.maps import Added
from savile.lm.model import LM
from savile.lm.names import PEFT_PREFIX, named, shortened
from savile.lm.sites import LinearSite

A: Final = "lora_A"
B: Final = "lora_B"
OTHER_METHODS: Final = (
    "alora_invocation_tokens",
    "alpha_pattern",
    "arrow_config",
    "kasa_config",
    "lora_bias",
    "modules_to_save",
    "monteclora_config",
    "rank_pattern",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
    "velora_config",
)
"""Settings of PEFT's LoRA files that mean another method than LoRA or DoRA."""
KEEP_THE_BASE: Final = (True, False, None, "gaussian", "orthogonal", "eva")
"""Values of PEFT's `init_lora_weights` that leave the base's weights as they are."""


class Pair(NamedTuple):
    """The two factors of one map's update, float32."""

    a: Tensor
    """[R, in]"""
    b: Tensor
    """[out, R]"""


Start = Callable[[LinearSite, int, torch.Generator], Pair]
"""From a map, the rank and a generator to the pair that training starts from."""


def kaiming(site: LinearSite, r: int, rng: torch.Generator) -> Pair:
    """Return A uniform within 1 / sqrt(in) and B = 0: PEFT's default."""
    a = torch.empty(r, site.in_features)
    nn.init.kaiming_uniform_(a, a=math.sqrt(5), generator=rng)
    return Pair(a, torch.zeros(site.out_features, r))


def gaussian(site: LinearSite, r: int, rng: torch.Generator) -> Pair:
    """Return A normal with a standard deviation of 1 / r, and B = 0: the paper's section 4.1."""
    a = torch.randn(r, site.in_features, generator=rng) / r
    return Pair(a, torch.zeros(site.out_features, r))


def orthogonal(site: LinearSite, r: int, rng: torch.Generator) -> Pair:
    """Return A and B over alternate rows of one orthogonal matrix: both move from the first step,
    and B A is zero up to rounding.

    Raises:
        UsageError: the rank is odd.
    """
    if r % 2:
        raise UsageError(
            Problem(
                what="orthogonal initialization splits the rank in two halves",
                where="r",
                found=str(r),
                expected="an even rank",
                fix=f"Use r: {r + 1}, or another init_lora_weights.",
            )
        )
    basis_RR = torch.linalg.qr(torch.randn(r, r, generator=rng)).Q
    a = (torch.randn(site.in_features, r // 2, generator=rng) @ basis_RR[0::2]).T / 10
    b = torch.randn(r // 2, site.out_features, generator=rng).T @ basis_RR[1::2] / 10
    return Pair(a.contiguous(), b)


def product(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return B A x [..., out] of x [..., in], in the type of x."""
    return functional.linear(functional.linear(x, a.to(x.dtype)), b.to(x.dtype))


STARTS: Final[Mapping[bool | str, Start]] = {
    True: kaiming,
    "gaussian": gaussian,
    "orthogonal": orthogonal,
}
"""PEFT's names of the starts that leave the base's weights as they are."""


def scale(r: int, alpha: float, use_rslora: bool) -> float:
    """Return s, the factor of B A."""
    return alpha / (math.sqrt(r) if use_rslora else r)


class LowRank:
    """Pairs beside the target maps of a model; all of them count, or none."""

    def __init__(
        self, lm: LM, wanted: Sequence[str] | None, start: Callable[[LinearSite], Pair], s: float
    ) -> None:
        """Make the pairs; nothing of the model changes before `change_outputs` or
        `add_to_outputs`.

        Args:
            lm: the base.
            wanted: last parts of the names of the maps, such as `q_proj`; None takes all maps.
            start: gives the pair of one map.
            s: the factor of B A.

        Raises:
            UsageError: the base has no map of a wanted name.
        """
        self.lm, self.scale, self.enabled = lm, s, True
        self.sites = _targets(lm, wanted)
        self.pairs = {site.name: Pair(*map(self._own, start(site))) for site in self.sites}
        self._hooks: list[RemovableHandle] = []
        self._replaced: dict[str, Tensor] = {}

    def _own(self, tensor: Tensor) -> Tensor:
        return tensor.contiguous().to(self.lm.device).requires_grad_()

    def parameters(self) -> dict[str, Tensor]:
        """Return A and B of every map under PEFT's names."""
        found = {}
        for name, pair in self.pairs.items():
            found[f"{name}.{A}"], found[f"{name}.{B}"] = pair
        return found

    def change_outputs(self, update: Callable[[LinearSite, Tensor, Tensor], Tensor]) -> None:
        """Let `update` turn a map's input [..., in] and output [..., out] into its new output."""
        self._hooks = [change_output(site, self._hook(site, update)) for site in self.sites]

    def _hook(
        self, site: LinearSite, update: Callable[[LinearSite, Tensor, Tensor], Tensor]
    ) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda x, h: update(site, x, h) if self.enabled else h

    def add_to_outputs(self) -> None:
        """Add s * B A x to every map's output."""
        self._hooks = [
            change_output(site, Added(*self.pairs[site.name], self.scale, lambda: self.enabled))
            for site in self.sites
        ]

    def matrix(self, site: LinearSite) -> Tensor:
        """Return s * B A, float32 [out, in]."""
        a, b = self.pairs[site.name]
        return self.scale * (b @ a)

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        """Compute as the base does, inside the context."""
        self.enabled, before = False, self.enabled
        try:
            yield
        finally:
            self.enabled = before

    @torch.no_grad()
    def fold(self, folded: Callable[[LinearSite], Tensor]) -> bool:
        """Replace every target's weight by `folded`, float32 [out, in], until removed.

        Returns:
            False where the base's weights are quantized and stay as they are.
        """
        if self.lm.quantization is not None:
            return False
        if not self._replaced:
            new = {site.name: folded(site) for site in self.sites}
            for site in self.sites:
                weight = site.weight
                self._replaced[site.name] = weight.clone()
                weight.copy_(new[site.name].T if site.transposed else new[site.name])
            self.enabled = False
        return True

    @torch.no_grad()
    def remove(self) -> None:
        """Take the hooks off and put replaced weights back."""
        for hook in self._hooks:
            hook.remove()
        for site in self.sites:
            if site.name in self._replaced:
                site.weight.copy_(self._replaced.pop(site.name))

    def peft_config(self, r: int, use_rslora: bool = False) -> dict[str, Any]:
        """Return what PEFT's `adapter_config.json` says of pairs of rank `r` with this factor."""
        return {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.lm.name,
            "r": r,
            "lora_alpha": self.scale * (math.sqrt(r) if use_rslora else r),
            "lora_dropout": 0.0,
            "use_rslora": use_rslora,
            "target_modules": shortened(self.pairs, [s.name for s in self.lm.sites.linear_maps()]),
            "bias": "none",
            "fan_in_fan_out": any(site.transposed for site in self.sites),
            "inference_mode": True,
        }


def dense(lm: LM, site: LinearSite) -> Tensor:
    """Return the base's weight of a map, float32 [out, in], of a quantized base what it stands
    for."""
    if lm.quantization is not None:
        unit = torch.eye(site.in_features, device=lm.device)
        return functional.linear(unit, site.weight).float().T
    weight = site.weight.float()
    return weight.T if site.transposed else weight


def peft_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state under the names of PEFT's `adapter_model.safetensors`."""
    return {
        f"{PEFT_PREFIX}{name}" + (".weight" if name.endswith((A, B)) else ""): tensor
        for name, tensor in state.items()
    }


def own_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what `peft_tensors` was given, float32."""
    return {
        name.removeprefix(PEFT_PREFIX).removesuffix(".weight"): tensor.float()
        for name, tensor in tensors.items()
    }


def is_low_rank(config: Mapping[str, Any]) -> bool:
    """Return whether PEFT's file holds plain pairs, perhaps with magnitudes, on the base as it is:
    no other variant of LoRA, no bias, one rank and scale, and an initialization that keeps the
    base."""
    return (
        config.get("peft_type") == "LORA"
        and config.get("bias", "none") == "none"
        and not any(config.get(name) for name in OTHER_METHODS)
        and config.get("init_lora_weights", True) in KEEP_THE_BASE
    )


def targets_of(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return which maps PEFT's files change: the listed ends of names, else (a pattern or
    `all-linear`) the names of the maps in the state."""
    listed = config.get("target_modules")
    if isinstance(listed, list):
        return tuple(sorted(listed))
    return tuple(sorted({name.rsplit(".", 1)[0] for name in state}))


def _targets(lm: LM, wanted: Sequence[str] | None) -> list[LinearSite]:
    sites = lm.sites.linear_maps()
    if wanted is None:
        return sites
    if not wanted:
        what = "no linear map is chosen"
        raise UsageError(Problem(what=what, where="target_modules", fix="Leave it out for all."))
    chosen = set(named(wanted, (site.name for site in sites), "target_modules"))
    return [site for site in sites if site.name in chosen]
