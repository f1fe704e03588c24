"""What work costs: seconds, peak memory, and FLOPs from counted tokens.

FLOPs (N trunk parameters, V * D head): forward 2 N a token and 2 V D a prediction; training adds
as much for the gradients of the inputs, and of the weights as far as the base itself trains (4 N a
token beside a frozen base, 6 N for all of it). Where only later layers train, the gradients end at
the first of them. Attention scores (2 T D L a token, small below T = 512) are left out.
Source: Kaplan et al. 2020, arXiv 2001.08361, section 2.1.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from types import TracebackType
from typing import Protocol, Self

import torch
from torch import Tensor

from savile.lm import memory
from savile.lm.model import LM, Work


class Placed(Protocol):
    """Something that computes somewhere: a model, a base."""

    @property
    def device(self) -> torch.device | str:
        """Where."""


class Meter:
    """Measures what happens inside the context; read its fields after it."""

    def __init__(self, placed: Placed) -> None:
        self._device = torch.device(placed.device)
        self.seconds = 0.0
        self.peak_bytes: int | None = None
        """Highest memory of the process (CPU) or of the device (CUDA), the base included."""

    def __enter__(self) -> Self:
        memory.reset_peak(self._device)
        self._start = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.seconds = time.perf_counter() - self._start
        self.peak_bytes = memory.peak_bytes(self._device)


def work_since(lm: LM, before: Work) -> Work:
    """Return what a model has computed since its count stood at `before`."""
    return Work(
        tokens=lm.work.tokens - before.tokens,
        predictions=lm.work.predictions - before.predictions,
        recalled=lm.work.recalled - before.recalled,
    )


def forward_flops(lm: LM, work: Work) -> float:
    """Return the FLOPs of the forward passes of counted work."""
    trunk = lm.trunk_parameters * work.tokens - work.recalled
    return 2.0 * (trunk + lm.head_parameters * work.predictions)


def backward_flops(lm: LM, work: Work, trained: Collection[Tensor]) -> float:
    """Return the FLOPs of the gradients of counted work.

    Args:
        work: what went forward and back.
        trained: the tensors that train, of the base or beside it.
    """
    own = {id(tensor) for tensor in trained}
    trunk = lm.sites.trunk()
    outside = {id(p) for p in lm.model.parameters()} - {id(p) for p in trunk}
    inputs = sum(p.numel() for p in lm.sites.reached(trained) if id(p) not in outside)
    weights = sum(p.numel() for p in trunk if id(p) in own)
    passes = 2 if id(lm.sites.head.get_parameter("weight")) in own else 1
    head = passes * lm.head_parameters
    return 2.0 * ((inputs + weights) * work.tokens + head * work.predictions)
