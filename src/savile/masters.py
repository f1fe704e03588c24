"""Float32 copies of parameters that train in a shorter type.

Source: mixed precision training, Micikevicius et al. 2017, arXiv 1710.03740, section 3.1.
Cost: 4 bytes for every trained parameter of a shorter type; none for float32 ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Masters:
    """Float32 copies of what trains in a shorter type; float32 parameters are their own masters."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = parameters
        self.tensors = [
            p if p.dtype == torch.float32 else p.detach().float().requires_grad_()
            for p in parameters
        ]

    def _pairs(self) -> list[tuple[Tensor, Tensor]]:
        both = zip(self.parameters, self.tensors, strict=True)
        return [(p, master) for p, master in both if p is not master]

    def collect(self) -> None:
        """Move gradients to the masters."""
        for p, master in self._pairs():
            master.grad = None if p.grad is None else p.grad.float()

    @torch.no_grad()
    def spread(self) -> None:
        """Write the masters back."""
        for p, master in self._pairs():
            p.copy_(master)

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over parameters that were set from outside."""
        for p, master in self._pairs():
            master.copy_(p)

    def clear(self) -> None:
        """Drop the gradients of the parameters."""
        for p in self.parameters:
            p.grad = None
