"""What work costs: seconds, peak memory, and FLOPs from counted tokens.

FLOPs (N trunk parameters, V * D head): forward 2 N a token and 2 V D a prediction; training adds
the gradients of the inputs, and those of the weights where the base itself trains (6 N instead of
4 N). Attention scores (2 T D L a token, small below T = 512) are left out.
Source: Kaplan et al. 2020, arXiv 2001.08361, section 2.1.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

import torch

from savile.lm.model import LM, Work

Training = Literal["none", "frozen", "full"]
_PASSES = {"none": 1, "frozen": 2, "full": 3}
"""Multiples of the forward work."""


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
        _reset_peak(self._device)
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
        self.peak_bytes = _peak(self._device)


def flops(lm: LM, work: Work, training: Training) -> float:
    """Return the FLOPs of counted work."""
    forward = 2 * (lm.trunk_parameters * work.tokens + lm.head_parameters * work.predictions)
    return float(forward * _PASSES[training])


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):  # not Linux, or not permitted: the peak is the process's
            Path("/proc/self/clear_refs").write_text("5")


def _peak(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None
