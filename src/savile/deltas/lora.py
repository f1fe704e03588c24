"""LoRA: a low-rank update beside every linear map of a frozen base.

    h = W x + (alpha / r) * B A x        A: [r, in], B: [out, r], B = 0 at the start

Source: Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen 2021, arXiv 2106.09685, equation 3;
rsLoRA's scale alpha / sqrt(r): Kalajdzievski 2023, arXiv 2312.03732; LoRA+'s learning rate of B,
`loraplus_lr_ratio` times that of A: Hayou, Ghosh, Yu 2024, arXiv 2402.12354, section 4.

Differs from the papers: A starts Kaiming-uniform as in PEFT (`gaussian` is the paper's), and all
linear maps of the trunk are targets (QLoRA, arXiv 2305.14314, section 4) instead of the attention
alone. The orthogonal start is PEFT's and has no paper.

Cost: r * (in + out) trainable parameters and 2 * r * (in + out) extra forward FLOPs a token and
map.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self, final

from annotated_types import Ge, Gt, Le
from torch import Tensor

from savile.deltas.base import Attached, Delta, Peft, generator
from savile.lm import lowrank
from savile.lm.lowrank import LowRank
from savile.lm.model import LM


@final
@dataclass(frozen=True, kw_only=True)
class LoRA(Delta):
    """Low-rank adaptation of the linear maps."""

    occupies: ClassVar[tuple[str, ...]] = ("linear maps",)
    rate_at_4096: ClassVar[float] = 2e-4
    """Usual rate at a width of 4,096; smaller models want it larger in proportion (measured:
    docs/log.md)."""

    r: Annotated[int, Ge(1), Le(1024)] = 8
    """Rank of the update."""
    lora_alpha: Annotated[float, Gt(0)] | None = None
    """Scale numerator; None means 2 * r."""
    use_rslora: bool = False
    """Scale by alpha / sqrt(r) instead of alpha / r."""
    init_lora_weights: Literal[True, "gaussian", "orthogonal"] = True
    """How A and B start: true is Kaiming-uniform with B = 0, `gaussian` normal with B = 0,
    `orthogonal` has both from one orthogonal matrix, with B A = 0."""
    target_modules: tuple[str, ...] | None = None
    """Last parts of module names, such as `q_proj`; None means every linear map of the trunk."""
    loraplus_lr_ratio: Annotated[float, Ge(1), Le(1000)] = 1.0
    """Learning rate of B divided by that of A; LoRA+ recommends about 16."""
    learning_rate: Annotated[float, Gt(0), Le(10)] | None = None
    """Peak learning rate; None searches around 2e-4 * 4096 / width."""

    @property
    def scale(self) -> float:
        """The factor of B A x."""
        alpha = 2.0 * self.r if self.lora_alpha is None else self.lora_alpha
        return lowrank.scale(self.r, alpha, self.use_rslora)

    def default_rate(self, lm: LM) -> float:
        """Return 2e-4 at width 4,096, in inverse proportion elsewhere; A's and B's rates have it as
        their geometric mean."""
        return self.rate_at_4096 * 4096 / lm.sites.width / math.sqrt(self.loraplus_lr_ratio)

    def attach(self, lm: LM, seed: int) -> Attached:
        """Attach A and B to every target map."""
        return _Attached(lm, self, seed)

    @classmethod
    def from_peft(cls, peft: Peft) -> tuple[Self, dict[str, Tensor]] | None:
        """Read PEFT's LoRA files (no variant such as DoRA, no bias, one rank and scale, and an
        initialization that keeps the base's weights)."""
        config = peft.config
        if not lowrank.is_low_rank(config) or config.get("use_dora"):
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
    def __init__(self, lm: LM, delta: LoRA, seed: int) -> None:
        super().__init__(lm)
        self.delta = delta
        rng, start = generator(seed), lowrank.STARTS[delta.init_lora_weights]
        self.pairs = LowRank(
            lm, delta.target_modules, lambda site: start(site, delta.r, rng), delta.scale
        )
        self.pairs.add_to_outputs()

    def parameters(self) -> dict[str, Tensor]:
        return self.pairs.parameters()

    def rate_factor(self, name: str) -> float:
        return self.delta.loraplus_lr_ratio if name.endswith(lowrank.B) else 1.0

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        with self.pairs.off():
            yield

    def merge(self) -> bool:
        return self.pairs.fold(lambda site: lowrank.dense(self.lm, site) + self.pairs.matrix(site))

    def to_peft(self) -> Peft:
        config = self.pairs.peft_config(self.delta.r, self.delta.use_rslora)
        config["init_lora_weights"] = self.delta.init_lora_weights
        return Peft(config, lowrank.peft_tensors(self.state()))

    def detach(self) -> None:
        self.pairs.remove()
