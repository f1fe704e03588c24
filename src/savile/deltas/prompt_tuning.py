"""Prompt tuning: n trained vectors stand before every input; the model stays frozen.

    [P; E(x)]        P: [n, D] trained, E the frozen embedding

Source: Lester, Al-Rfou, Constant 2021, arXiv 2104.08691, section 2; initialization from the
vocabulary and from text: section 3.2. In the token tree P is the root of all sequences, so it is
computed once a batch, and a batch equals its single runs.

Differs from the paper: AdamW instead of Adafactor; the learning rate is a share of the embedding's
scale.

Cost: n * D trainable parameters; n more positions in every sequence (one shared root in a batch).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal, Self, final

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from savile.deltas.base import Attached, Delta, Peft, generator
from savile.lm.model import LM, Root

KEY: Final = "prompt_embeddings"
"""PEFT's name of the trained vectors."""


@final
@dataclass(frozen=True, kw_only=True)
class PromptTuning(Delta):
    """Soft prompt vectors before the input."""

    starts_as_base: ClassVar[bool] = False
    rate_share: ClassVar[float] = 0.5
    """Default learning rate as a share of the embedding's root mean square (measured:
    docs/log.md)."""

    num_virtual_tokens: Annotated[int, Ge(1), Le(4096)] = 20
    """How many vectors are trained."""
    prompt_tuning_init: Literal["vocabulary", "text", "random"] = "vocabulary"
    """Start from embeddings of random tokens, of `prompt_tuning_init_text`, or from noise of
    their scale."""
    prompt_tuning_init_text: str | None = None
    """The text to start from, repeated or cut to the number of vectors."""
    learning_rate: Annotated[float, Gt(0), Le(100)] | None = None
    """Peak learning rate; None searches around 0.5 * rms of the embedding."""

    def default_rate(self, lm: LM) -> float:
        """Return a share of the embedding's scale, so that one step moves a vector by that
        share."""
        return self.rate_share * _rms(lm)

    def attach(self, lm: LM, seed: int) -> Attached:
        """Put the vectors at the root of every tree."""
        return _Attached(lm, self, seed)

    @classmethod
    def from_peft(cls, peft: Peft) -> tuple[Self, dict[str, Tensor]] | None:
        """Read PEFT's prompt tuning files."""
        if peft.config.get("peft_type") != "PROMPT_TUNING":
            return None
        delta = cls(num_virtual_tokens=int(peft.config["num_virtual_tokens"]))
        return delta, {KEY: peft.tensors[KEY].float()}


class _Attached(Attached):
    def __init__(self, lm: LM, delta: PromptTuning, seed: int) -> None:
        super().__init__(lm)
        self.vectors = _start(lm, delta, seed).to(lm.device).requires_grad_()
        lm.root = Root(len(self.vectors), lambda: self.vectors)

    def parameters(self) -> dict[str, Tensor]:
        return {KEY: self.vectors}

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        self.lm.root, before = None, self.lm.root
        try:
            yield
        finally:
            self.lm.root = before

    def merge(self) -> bool:
        return False

    def to_peft(self) -> Peft:
        config = self.lm.model.config.get_text_config()
        return Peft(
            {
                "peft_type": "PROMPT_TUNING",
                "task_type": "CAUSAL_LM",
                "base_model_name_or_path": self.lm.name,
                "num_virtual_tokens": len(self.vectors),
                "prompt_tuning_init": "RANDOM",
                "token_dim": self.lm.sites.width,
                "num_transformer_submodules": 1,
                "num_attention_heads": config.num_attention_heads,
                "num_layers": config.num_hidden_layers,
                "inference_mode": True,
            },
            self.state(),
        )

    def detach(self) -> None:
        self.lm.root = None


def _table(lm: LM) -> Tensor:
    return lm.sites.embedding_weight.detach().float().cpu()


def _rms(lm: LM) -> float:
    return float(_table(lm).square().mean().sqrt())


def _start(lm: LM, delta: PromptTuning, seed: int) -> Tensor:
    """Return the initial vectors, float32 [n, D]."""
    n, table, rng = delta.num_virtual_tokens, _table(lm), generator(seed)
    if delta.prompt_tuning_init == "random":
        return torch.randn(n, table.shape[1], generator=rng) * _rms(lm)
    if delta.prompt_tuning_init == "text" and delta.prompt_tuning_init_text:
        ids = lm.encode_completion(delta.prompt_tuning_init_text)[:-1]
        return table[[ids[i % len(ids)] for i in range(n)]].clone()
    return table[torch.randint(len(table), (n,), generator=rng)].clone()
