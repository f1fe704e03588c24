"""Log-probabilities of chosen tokens from hidden states, without ever holding all logits.

    log p(t | h) = w_t . h - log sum_v exp(w_v . h)        d/dh = w_t - sum_v p_v w_v

The logits exist in tiles that fit the cache. While a tile is there, it also gives its part of
E = sum_v p_v w_v, so the gradient of the hidden states, whatever the objective makes of the
log-probabilities, needs no second look at the vocabulary; sums over tiles are rescaled as their
maximum grows, which is exact.

Source: the rescaled sums: Milakov & Gimelshein 2018, arXiv 1805.02867, algorithm 3; tiles of the
output head: Wijmans et al. 2024, arXiv 2411.09009.

Cost: 4 * V * D FLOPs a row in the forward pass, half of it without gradients, and none backward; a
head that trains computes its logits again, 6 * V * D more.

Shape legend: S rows of hidden states, M chosen tokens, V vocabulary, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS: Final = 512
COLUMNS: Final = 4096
"""Rows and tokens of a tile: at most 8 MB of logits."""


def chosen_logprobs(hidden: Tensor, weight: Tensor, rows: Tensor, tokens: Tensor) -> Tensor:
    """Return log p(tokens) after rows of hidden states, float32 [M], differentiable.

    Args:
        hidden: what the head reads [S, D].
        weight: the head's [V, D].
        rows: which of the S rows predicts each token, int64 [M].
        tokens: int64 [M].
    """
    keep = torch.is_grad_enabled() and hidden.requires_grad
    out: Tensor = _Chosen.apply(hidden, weight, rows, tokens, keep)  # type: ignore[no-untyped-call]
    return out


class _Chosen(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, rows: Tensor, tokens: Tensor, keep: bool
    ) -> Tensor:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        normal = hidden.new_empty(len(hidden), dtype=wide)
        mean = torch.empty_like(hidden, dtype=wide) if keep else None
        for part in _slices(len(hidden), ROWS):
            normal[part], of_part = _normal(hidden[part], weight, keep)
            if mean is not None and of_part is not None:
                mean[part] = of_part
        ctx.save_for_backward(hidden, weight, rows, tokens, normal, mean)
        chosen = (hidden[rows].to(wide) * weight[tokens]).sum(-1)
        return chosen - normal[rows]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        hidden, weight, rows, tokens, normal, mean = ctx.saved_tensors
        of_rows = grad.new_zeros(len(hidden)).index_add_(0, rows, grad)
        down = of_weight = None
        if ctx.needs_input_grad[0]:
            down = mean * -of_rows[:, None]
            down.index_add_(0, rows, grad[:, None] * weight[tokens])
            down = down.to(hidden.dtype)
        if ctx.needs_input_grad[1]:
            of_weight = torch.empty_like(weight)
            for part in _slices(len(weight), COLUMNS):
                odds = (hidden @ weight[part].T).to(normal.dtype).sub_(normal[:, None]).exp_()
                of_weight[part] = odds.mul_(-of_rows[:, None]).to(hidden.dtype).T @ hidden
            of_weight.index_add_(0, tokens, grad[:, None].to(hidden.dtype) * hidden[rows])
        return down, of_weight, None, None, None


def _normal(hidden: Tensor, weight: Tensor, keep: bool) -> tuple[Tensor, Tensor | None]:
    """Return log sum_v exp(w_v . h) of some rows, [S], and E, [S, D], where it is wanted."""
    wide = torch.promote_types(hidden.dtype, torch.float32)
    top = hidden.new_full((len(hidden), 1), float("-inf"), dtype=wide)
    total = torch.zeros_like(top)
    mean = torch.zeros_like(hidden, dtype=wide) if keep else None
    for part in _slices(len(weight), COLUMNS):
        logits = (hidden @ weight[part].T).to(wide)
        higher = torch.maximum(top, logits.amax(-1, keepdim=True))
        odds, shrink = logits.sub_(higher).exp_(), (top - higher).exp_()
        total.mul_(shrink).add_(odds.sum(-1, keepdim=True))
        top = higher
        if mean is not None:
            own = weight[part]
            if own.dtype == wide:
                mean.mul_(shrink).addmm_(odds, own)
            else:
                mean.mul_(shrink).add_(odds.to(own.dtype) @ own)
    return (top + total.log())[:, 0], None if mean is None else mean.div_(total)


def _slices(size: int, step: int) -> Iterator[slice]:
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))
