"""What stands between the linear maps of a Llama layer, each one operation with its backward pass.

    norm(x)       = w * x / rms(x)                  Zhang & Sennrich 2019, arXiv 1910.07467
    rotate(x)     = x * cos + turned(x) * sin       Su et al. 2021, arXiv 2104.09864, equation 34
    gated(g, u)   = g * sigmoid(g) * u              Shazeer 2020, arXiv 2002.05202, section 2

Each keeps its inputs alone: what it computes on the way is computed again in the backward pass,
which costs less than memory does.

Shape legend: N packed tokens, H heads, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


def norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Return x [..., D] over the root mean square of its last dimension, times weight [D]."""
    if not torch.is_grad_enabled():
        return _normed(x, weight, epsilon)[0]
    out: Tensor = _Norm.apply(x, weight, epsilon)  # type: ignore[no-untyped-call]
    return out


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return x [N, H, D] rotated by position, as [H, N, D].

    Args:
        x: queries or keys.
        cos: of each position's angles [N, D], perhaps times a scale.
        sin: likewise.
    """
    if not torch.is_grad_enabled():
        return _rotated(x, cos, sin)
    out: Tensor = _Rotate.apply(x, cos, sin)  # type: ignore[no-untyped-call]
    return out


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """Return silu(gate) * up."""
    if not torch.is_grad_enabled():
        return functional.silu(gate).mul_(up)
    out: Tensor = _Gated.apply(gate, up)  # type: ignore[no-untyped-call]
    return out


def _normed(x: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return the norm, and one over the root mean square [..., 1]."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    inverse = wide.square().mean(-1, keepdim=True).add_(epsilon).rsqrt_()
    return (wide * inverse).to(x.dtype).mul_(weight), inverse


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        out, inverse = _normed(x, weight, epsilon)
        ctx.save_for_backward(x, weight, inverse)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, inverse = ctx.saved_tensors
        unit = x * inverse
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = (grad * unit).flatten(0, -2).sum(0).to(weight.dtype)
        if not ctx.needs_input_grad[0]:
            return None, of_weight, None
        down = (grad * weight).to(inverse.dtype)
        along = (down * unit).mean(-1, keepdim=True)
        return down.sub_(unit.mul_(along)).mul_(inverse).to(x.dtype), of_weight, None


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        heads, n, width = grad.shape
        out = grad.new_empty(n, heads, width)
        _turned(grad, cos, -sin, out.transpose(0, 1))
        return out, None, None


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    n, heads, width = x.shape
    return _turned(x.transpose(0, 1), cos, sin, x.new_empty(heads, n, width))


def _turned(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> Tensor:
    """Write x * cos + (-x2, x1) * sin into `out`, (x1, x2) the halves of x [H, N, D]; the angles of
    both halves are the same, so the inverse has -sin."""
    half = x.shape[-1] // 2
    torch.mul(x, cos, out=out)
    out[..., :half].addcmul_(x[..., half:], sin[:, :half], value=-1)
    out[..., half:].addcmul_(x[..., :half], sin[:, half:])
    return out


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return functional.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        down = torch.ops.aten.silu_backward(grad * up, gate)
        return down, functional.silu(gate).mul_(grad)
