"""PiSSA: LoRA that starts from the principal singular values of every weight and trains those.

    h = W x + s (B A - B0 A0) x        W = U S V^T, A = A0 and B = B0 at the start
                                       A0 = sqrt(S_r / s) V_r^T, B0 = U_r sqrt(S_r / s)

Source: Meng, Wang, Zhang 2024, arXiv 2404.02948, equations 2 to 4; the sum of both products as one
update of rank 2 r: appendix C (and PEFT's conversion to LoRA files).

Differs from the paper: it subtracts s B0 A0 from W and freezes the rest, here W stays as it is and
the subtraction is part of the update: (B - B0) A + B0 (A - A0), which is exactly zero at the start.
The function and the gradients are the paper's; the base survives to the bit. On a quantized base
the singular values are those of the quantized weights (QPiSSA quantizes what is left of them).

Cost: r * (in + out) trainable parameters and as many kept; 4 * r * (in + out) extra forward FLOPs a
token and map; one singular value decomposition a map when it attaches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, final

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from savile.deltas.base import Attached, Delta, Peft, copy_state
from savile.errors import Problem, UsageError
from savile.lm import lowrank
from savile.lm.lowrank import LowRank, Pair
from savile.lm.model import LM
from savile.lm.sites import LinearSite

START_A: Final = "start_A"
START_B: Final = "start_B"


@final
@dataclass(frozen=True, kw_only=True)
class PiSSA(Delta):
    """Low-rank adaptation of the principal singular values."""

    in_auto: ClassVar[bool] = False
    occupies: ClassVar[tuple[str, ...]] = ("linear maps",)
    rate_at_4096: ClassVar[float] = 2e-4

    r: Annotated[int, Ge(1), Le(1024)] = 8
    """Rank of the update, at most the smaller side of every target."""
    lora_alpha: Annotated[float, Gt(0)] | None = None
    """Scale numerator; None means r, as in the paper."""
    target_modules: tuple[str, ...] | None = None
    """Last parts of module names, such as `q_proj`; None means every linear map of the trunk."""
    learning_rate: Annotated[float, Gt(0), Le(10)] | None = None
    """Peak learning rate; None searches around 2e-4 * 4096 / width."""

    @property
    def scale(self) -> float:
        """The factor of both products."""
        return 1.0 if self.lora_alpha is None else self.lora_alpha / self.r

    def default_rate(self, lm: LM) -> float:
        """Return 2e-4 at width 4,096, in inverse proportion elsewhere."""
        return self.rate_at_4096 * 4096 / lm.sites.width

    def attach(self, lm: LM, seed: int) -> Attached:
        """Attach A and B to every target map; nothing is drawn at random."""
        return _Attached(lm, self)


class _Attached(Attached):
    def __init__(self, lm: LM, delta: PiSSA) -> None:
        super().__init__(lm)
        self.r, self.scale = delta.r, delta.scale
        self.pairs = LowRank(lm, delta.target_modules, self._principal, delta.scale)
        self.starts = {
            name: Pair(pair.a.detach().clone(), pair.b.detach().clone())
            for name, pair in self.pairs.pairs.items()
        }
        self.pairs.change_outputs(self._changed)

    def _principal(self, site: LinearSite) -> Pair:
        """Return A0 and B0 of one map."""
        if self.r > min(site.in_features, site.out_features):
            raise UsageError(
                Problem(
                    what=f"{site.name} has fewer singular values than the rank",
                    where="r",
                    found=str(self.r),
                    expected=f"at most {min(site.in_features, site.out_features)}",
                )
            )
        u, singular, vt = torch.linalg.svd(lowrank.dense(self.lm, site), full_matrices=False)
        root = (singular[: self.r] / self.scale).sqrt()
        return Pair(root[:, None] * vt[: self.r], u[:, : self.r] * root)

    def _changed(self, site: LinearSite, x: Tensor, h: Tensor) -> Tensor:
        (a, b), (a0, b0) = self.pairs.pairs[site.name], self.starts[site.name]
        change = lowrank.product(x, a, b - b0) + lowrank.product(x, a - a0, b0)
        return h + self.scale * change

    def _matrix(self, site: LinearSite) -> Tensor:
        a, b = self.starts[site.name]
        return self.pairs.matrix(site) - self.scale * (b @ a)

    def parameters(self) -> dict[str, Tensor]:
        return self.pairs.parameters()

    def _kept(self) -> dict[str, Tensor]:
        """Return everything a reload needs: the start, too, for its signs are the machine's."""
        kept = self.parameters()
        for name, start in self.starts.items():
            kept[f"{name}.{START_A}"], kept[f"{name}.{START_B}"] = start
        return kept

    def state(self) -> dict[str, Tensor]:
        return {k: tensor.detach().to("cpu", copy=True) for k, tensor in self._kept().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        copy_state(self._kept(), state)

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        with self.pairs.off():
            yield

    def merge(self) -> bool:
        return self.pairs.fold(lambda site: lowrank.dense(self.lm, site) + self._matrix(site))

    def to_peft(self) -> Peft:
        """Return one plain update of rank 2 r, which needs no changed base."""
        state = {}
        for name, pair in self.pairs.pairs.items():
            start = self.starts[name]
            state[f"{name}.{lowrank.A}"] = torch.cat([pair.a, start.a]).detach().cpu()
            state[f"{name}.{lowrank.B}"] = torch.cat([pair.b, -start.b], 1).detach().cpu()
        return Peft(self.pairs.peft_config(2 * self.r), lowrank.peft_tensors(state))

    def detach(self) -> None:
        self.pairs.remove()
