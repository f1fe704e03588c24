"""Linear maps of one input, with the low-rank updates that LoRA adds to them, as one operation.

    y = W x + b + s * B A x

Forward and backward passes are written out: products add onto each other in place, maps that read
the same input (queries, keys and values; gate and up) add onto one gradient, and of frozen weights
nothing is kept but the weights.

Source: Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen 2021, arXiv 2106.09685, equation 3.

Cost: 2 * in * out FLOPs a token forward and again backward; 2 * R * (in + out) forward and twice
that backward for a low-rank update; 2 * in * out more for weights that train.

Shape legend: N packed tokens, R rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from savile.lm.changes import output_updates


@final
@dataclass(frozen=True)
class Added:
    """The update h + s * B A x of one map's output."""

    a: Tensor
    """A [R, in], float32."""
    b: Tensor
    """B [out, R], float32."""
    scale: float
    """s."""
    enabled: Callable[[], bool]
    """Whether it counts."""

    def __call__(self, x: Tensor, h: Tensor) -> Tensor:
        """Return h [..., out] with the update of x [..., in], in the type of x."""
        if not self.enabled():
            return h
        low = functional.linear(x.flatten(0, -2), self.a.to(x.dtype))
        out = torch.addmm(h.flatten(0, -2), low, self.b.to(x.dtype).T, alpha=self.scale)
        return out.view(h.shape)


def mapped(x: Tensor, modules: Sequence[nn.Module]) -> Sequence[Tensor]:
    """Return what linear modules, with whatever changes their outputs, make of x [N, in]."""
    updates = _low_rank(modules)
    if updates is None:
        return [module(x) for module in modules]
    flat: list[Tensor | None] = []
    for module, update in zip(modules, updates, strict=True):
        pair = (None, None) if update is None else (update.a.to(x.dtype), update.b.to(x.dtype))
        flat += [module._parameters["weight"], module._parameters["bias"], *pair]
    scales = [None if update is None else update.scale for update in updates]
    if not torch.is_grad_enabled():
        return [out for out, _ in _outputs(x, scales, flat)]
    out: tuple[Tensor, ...] = _Maps.apply(x, scales, *flat)  # type: ignore[no-untyped-call]
    return out


def _low_rank(modules: Sequence[nn.Module]) -> list[Added | None] | None:
    """Return the low-rank update of each module, None where it has none; None for all where some
    output is changed in another way or some weight is quantized."""
    found: list[Added | None] = []
    for module in modules:
        updates = output_updates(module)
        weight = module._parameters["weight"]
        stored = weight is not None and type(weight.data) is Tensor  # and not quantized
        if updates is None or len(updates) > 1 or not stored:
            return None
        update = updates[0] if updates else None
        if update is not None and not isinstance(update, Added):
            return None
        found.append(update if update is not None and update.enabled() else None)
    return found


class _Maps(torch.autograd.Function):
    """x, the scales, and weight, bias, A and B of each map."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scales: Sequence[float | None], *flat: Tensor | None
    ) -> tuple[Tensor, ...]:
        found, lows = zip(*_outputs(x, scales, flat), strict=True)
        ctx.scales = scales
        ctx.save_for_backward(x if any(ctx.needs_input_grad[2:]) else None, *lows, *flat)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        needed = ctx.needs_input_grad
        down: Tensor | None = None
        found: list[Tensor | None] = []
        rows = zip(grads, ctx.scales, saved, _fours(saved[len(grads) :]), strict=False)
        for number, (grad, scale, low, (weight, _, a, b)) in enumerate(rows):
            trains = needed[2 + 4 * number :]
            found += [
                grad.T @ x if trains[0] else None,
                grad.sum(0) if trains[1] else None,
                None,
                None,
            ]
            if needed[0]:
                down = grad @ weight if down is None else down.addmm_(grad, weight)
            if scale is not None:
                back = (grad @ b).mul_(scale)
                if down is not None:
                    down.addmm_(back, a)
                if trains[2]:
                    found[-2:] = [back.T @ x, (grad.T @ low).mul_(scale)]
        return down, None, *found


def _outputs(
    x: Tensor, scales: Sequence[float | None], flat: Sequence[Tensor | None]
) -> list[tuple[Tensor, Tensor | None]]:
    """Return the output of each map, and A x where it has an update."""
    found = []
    for scale, (weight, bias, a, b) in zip(scales, _fours(flat), strict=True):
        out, low = functional.linear(x, weight, bias), None
        if scale is not None:
            low = functional.linear(x, a)
            out.addmm_(low, b.T, alpha=scale)
        found.append((out, low))
    return found


def _fours(flat: Sequence[Any]) -> list[tuple[Any, Any, Any, Any]]:
    """Return weight, bias, A and B of each map, None where it has none."""
    return list(zip(flat[::4], flat[1::4], flat[2::4], flat[3::4], strict=True))
