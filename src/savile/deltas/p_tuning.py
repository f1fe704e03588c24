"""P-tuning: n virtual tokens before every input, computed by a small trained encoder.

    P = f(E)      E: [n, D] trained
    LSTM:  f(E) = W2 relu(W1 [h_forward; h_backward])      h: a bidirectional LSTM over E
    MLP:   f(E) = W3 relu(W2 relu(W1 E))

Source: Liu, Zheng, Du, Ding, Qian, Yang, Tang 2021, arXiv 2103.10385: version 1, section 3.2, for
the LSTM; version 2 of 2023 also for the MLP. The layers and their names are those of PEFT's
PromptEncoder.

Differs from the paper: all virtual tokens stand before the input (the paper also puts them between
its parts), and there is no dropout, because a root that sequences share has one value. The encoder
computes once in every forward pass; it is kept to resume and dropped from PEFT's files.

Cost: n * D trainable parameters and the encoder's, with hidden width H = D and two LSTM layers
about 46 * D^2 (MLP 3 * D^2); as many multiplications a virtual token and forward pass, none once
exported; n more positions in every sequence (one shared root in a batch).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal, final

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from savile.deltas.base import Attached, Delta, SoftPrompt
from savile.errors import Problem, UsageError
from savile.lm.model import LM

LAYERS: Final = 2
"""LSTM layers by default, as in the paper and in PEFT."""


@final
@dataclass(frozen=True, kw_only=True)
class PTuning(Delta):
    """Soft prompt vectors that an encoder computes."""

    starts_as_base: ClassVar[bool] = False
    occupies: ClassVar[tuple[str, ...]] = ("virtual tokens",)
    rates_at_4096: ClassVar[dict[str, float]] = {"LSTM": 2e-4, "MLP": 4e-4}
    """Default learning rates at a width of 4,096; smaller models want larger ones in proportion
    (measured: docs/log.md)."""

    num_virtual_tokens: Annotated[int, Ge(1), Le(4096)] = 20
    """How many virtual tokens stand before the input."""
    encoder_reparameterization_type: Literal["LSTM", "MLP"] = "LSTM"
    """What computes them: a bidirectional LSTM with two linear maps, or three linear maps."""
    encoder_hidden_size: Annotated[int, Ge(1), Le(65536)] | None = None
    """Width of the encoder; None means that of the base."""
    encoder_num_layers: Annotated[int, Ge(1), Le(16)] = 2
    """Layers of the LSTM; the MLP always has three linear maps."""
    learning_rate: Annotated[float, Gt(0), Le(10)] | None = None
    """Peak learning rate; None searches around 2e-4 (MLP 4e-4) * 4096 / width."""

    def default_rate(self, lm: LM) -> float:
        """Return the encoder's usual rate at width 4,096, in inverse proportion elsewhere."""
        return self.rates_at_4096[self.encoder_reparameterization_type] * 4096 / lm.sites.width

    def attach(self, lm: LM, seed: int) -> Attached:
        """Put the encoder's output at the root of every tree.

        Raises:
            UsageError: `encoder_num_layers` is set for the MLP.
        """
        if self.encoder_reparameterization_type == "MLP" and self.encoder_num_layers != LAYERS:
            raise UsageError(
                Problem(
                    what="the MLP encoder always has three linear maps",
                    where="encoder_num_layers",
                    found=str(self.encoder_num_layers),
                    fix="Leave it out, or use encoder_reparameterization_type: LSTM.",
                )
            )
        return _Attached(lm, self, seed)


class _Attached(SoftPrompt):
    def __init__(self, lm: LM, delta: PTuning, seed: int) -> None:
        super().__init__(lm, delta.num_virtual_tokens)
        self.delta = delta
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            encoder = _Encoder(delta, lm.sites.width)
        self.encoder = encoder.to(lm.device)

    def vectors(self) -> Tensor:
        with torch.autocast(self.lm.device.type, enabled=False):  # as it is evaluated
            vectors: Tensor = self.encoder()
        return vectors

    def parameters(self) -> dict[str, Tensor]:
        return dict(self.encoder.named_parameters())

    def peft_settings(self) -> dict[str, Any]:
        delta = self.delta
        return {
            "peft_type": "P_TUNING",
            "encoder_reparameterization_type": delta.encoder_reparameterization_type,
            "encoder_hidden_size": delta.encoder_hidden_size or self.lm.sites.width,
            "encoder_num_layers": delta.encoder_num_layers,
            "encoder_dropout": 0.0,
        }


class _Encoder(nn.Module):
    """PEFT's PromptEncoder without dropout."""

    def __init__(self, delta: PTuning, width: int) -> None:
        super().__init__()
        hidden = delta.encoder_hidden_size or width
        self.embedding = nn.Embedding(delta.num_virtual_tokens, width)
        self.lstm_head: nn.LSTM | None = None
        if delta.encoder_reparameterization_type == "LSTM":
            self.lstm_head = nn.LSTM(width, hidden, delta.encoder_num_layers, bidirectional=True)
            maps = [nn.Linear(2 * hidden, 2 * hidden), nn.Linear(2 * hidden, width)]
        else:
            maps = [nn.Linear(width, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, width)]
        between = [module for linear in maps for module in (nn.ReLU(), linear)]
        self.mlp_head = nn.Sequential(*between[1:])

    def forward(self) -> Tensor:
        """Return the virtual tokens [n, D]."""
        embedded = self.embedding.weight
        hidden = embedded if self.lstm_head is None else self.lstm_head(embedded)[0]
        vectors: Tensor = self.mlp_head(hidden)
        return vectors
