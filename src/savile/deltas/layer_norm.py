"""LayerNorm tuning: the gains and biases of the normalizations train, all else is frozen.

    h = g * (x - mean(x)) / std(x) + b        g and b train (RMSNorm: g alone)

Source: Zhao, Tu, Wei, Mei, Xie 2023, arXiv 2312.11420.

Differs from the paper: it teaches language models to see, and trains the connector to the images as
well. Here all norms train and nothing else, those of queries and keys (Qwen 3) included; PEFT's own
targets for Qwen are the norms after the attention alone.

Cost: D trained parameters a norm, 2 * D with a bias; training takes the 4 * N FLOPs a token of a
frozen base, use no more than the base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Self, final

from annotated_types import Gt, Le, MinLen
from torch import Tensor

from savile.deltas.base import Attached, Delta, InPlace, Peft
from savile.errors import Problem, UsageError
from savile.lm.model import LM
from savile.lm.names import PEFT_PREFIX, named, shortened

INSIDE: Final = ".ln_tuning_layers."
"""What PEFT writes between a norm's name and its parameter's."""


@final
@dataclass(frozen=True, kw_only=True)
class LayerNorm(Delta):
    """Train the normalizations."""

    in_auto: ClassVar[bool] = False
    occupies: ClassVar[tuple[str, ...]] = ("weights",)
    rate_at_4096: ClassVar[float] = 2e-3
    """Rate at a width of 4,096; smaller models want it larger in proportion (measured:
    docs/log.md)."""

    target_modules: Annotated[tuple[str, ...], MinLen(1)] | None = None
    """Last parts of the names of the norms to train, such as `input_layernorm`; None means all."""
    learning_rate: Annotated[float, Gt(0), Le(10)] | None = None
    """Peak learning rate; None searches around 2e-3 * 4096 / width."""

    def default_rate(self, lm: LM) -> float:
        """Return 2e-3 at width 4,096, in inverse proportion elsewhere."""
        return self.rate_at_4096 * 4096 / lm.sites.hidden_size

    def attach(self, lm: LM, seed: int) -> Attached:
        """Make the norms trainable; nothing is drawn at random."""
        norms = lm.sites.norms()
        if not norms:
            raise UsageError(
                Problem(
                    what="the normalizations of this base have no parameters to train",
                    found=type(lm.model).__name__,
                    fix="Use another technique, such as lora.",
                )
            )
        if self.target_modules is not None:
            norms = named(self.target_modules, norms, "target_modules")
        return _Attached(lm, norms)

    @classmethod
    def from_peft(cls, peft: Peft) -> tuple[Self, dict[str, Tensor]] | None:
        """Read PEFT's LayerNorm tuning files whose modules are listed, not described by a
        pattern."""
        config = peft.config
        targets = config.get("target_modules")
        other = config.get("peft_type") != "LN_TUNING" or config.get("modules_to_save")
        if other or not isinstance(targets, list):
            return None
        state = {
            name.removeprefix(PEFT_PREFIX).replace(INSIDE, "."): tensor
            for name, tensor in peft.tensors.items()
        }
        return cls(target_modules=tuple(sorted(targets))), state


class _Attached(InPlace):
    def __init__(self, lm: LM, norms: Sequence[str]) -> None:
        super().__init__(lm, lm.sites.parameters_of(norms))
        self.norms = norms

    def to_peft(self) -> Peft:
        everything = [name for name, _ in self.lm.model.named_modules()]
        config = {
            "peft_type": "LN_TUNING",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.lm.name,
            "target_modules": shortened(self.norms, everything),
            "inference_mode": True,
        }
        split = {name: name.rpartition(".") for name in self.parameters()}
        return Peft(
            config,
            {
                f"{PEFT_PREFIX}{split[name][0]}{INSIDE}{split[name][2]}": tensor
                for name, tensor in self.state().items()
            },
        )
