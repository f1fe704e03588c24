"""Attention over a token tree's layout, forward and backward.

    out = softmax(q K^T + mask) V        K, V of the stem and of the query's own branch

The scores with the stem and with the branch stand beside each other in one buffer, so a query has
one softmax and the result is exactly that of its separate sequence. The backward pass is written
out: gradients of a stem that many branches see are summed by one matrix product, and nothing is
scattered but the branches' own rows.

Source: Vaswani et al. 2017, arXiv 1706.03762, equation 1.

Cost: G * S * (P + T) score entries a block, P^2 / 2 for the stem; a stem of more than `LONG`
queries goes through PyTorch's own attention, which keeps no scores.

Shape legend: H heads, K key-value heads, M queries, N packed positions, P stem, G branches, S
queries and T tokens of the longest branch, D head width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from savile.lm.layout import Block, Layout, Tile


def attend(q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
    """Return what every query reads, [M, H, D].

    Args:
        q: scaled queries [H, M, D].
        k: keys [K, N, D], where K divides H.
        v: values [K, N, D].
        layout: who sees whom.
    """
    device = q.device.type
    if torch.is_autocast_enabled(device):
        q, k, v = (x.to(torch.get_autocast_dtype(device)) for x in (q, k, v))
    with torch.autocast(device, enabled=False):
        if not layout.causal:
            out: Tensor = _Attention.apply(q, k, v, layout)  # type: ignore[no-untyped-call]
            return out
        first = _causal(q[:, : layout.causal], k[:, : layout.stem], v[:, : layout.stem])
        rest = _Attention.apply(q[:, layout.causal :], k, v, layout)  # type: ignore[no-untyped-call]
        return torch.cat([first, rest])


def _causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend from the last positions of the stem to all before them: [m, H, D]."""
    m, p = q.shape[1], k.shape[1]
    mask = None if m == p else torch.ones(m, p, dtype=torch.bool, device=q.device).tril(p - m)
    out = functional.scaled_dot_product_attention(
        q[None],
        repeated(k, len(q))[None],
        repeated(v, len(q))[None],
        attn_mask=mask,
        is_causal=mask is None,
        scale=1.0,
    )
    return out[0].transpose(0, 1)


class _Own(NamedTuple):
    """Queries, keys and values of a block's branches, side by side."""

    q: Tensor
    """[H, G * S, D]"""
    k: Tensor
    """[H * G, T, D]"""
    v: Tensor
    """[H * G, T, D]"""


class _Attention(torch.autograd.Function):
    """Tiles of the stem, then blocks of branches."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        heads, m, width = q.shape
        out = q.new_empty(m, heads, width)
        saved = [q, k, v]
        for tile in layout.tiles:
            weights, part = _tile(q[:, tile.start : tile.end], k, v, tile)
            out[tile.start : tile.end] = part.transpose(0, 1)
            saved.append(weights)
        start = layout.tiles[-1].end if layout.tiles else 0
        for block in layout.blocks:
            own = _gathered(q, k, v, block)
            weights, part = _block(own, k[:, : layout.stem], v[:, : layout.stem], block)
            end = start + len(block.asked)
            out[start:end] = _picked(part, block.asked).transpose(0, 1)
            saved += [*own, weights]
            start = end
        ctx.save_for_backward(*saved)
        ctx.layout = layout
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, *kept = ctx.saved_tensors
        layout: Layout = ctx.layout
        grads = _Grads(torch.empty_like(q), _zeros(k), _zeros(v))
        for tile in layout.tiles:
            _tile_backward(grad[tile.start : tile.end], q, k, v, kept.pop(0), tile, grads)
        start = layout.tiles[-1].end if layout.tiles else 0
        for block in layout.blocks:
            own, weights = _Own(*kept[:3]), kept[3]
            del kept[:4]
            end = start + len(block.asked)
            stem = (k[:, : layout.stem], v[:, : layout.stem])
            part = _block_backward(grad[start:end], own, stem, weights, block, grads)
            grads.q[:, start:end] = _picked(part, block.asked)
            start = end
        return *grads, None


class _Grads(NamedTuple):
    """Where the gradients gather."""

    q: Tensor
    k: Tensor
    v: Tensor


def _zeros(x: Tensor) -> Tensor:
    """Return zeros [K, N, D] whose memory is that of the projection they come from, [N, K, D]."""
    heads, n, width = x.shape
    return x.new_zeros(n, heads, width).transpose(0, 1)


def _tile(q: Tensor, k: Tensor, v: Tensor, tile: Tile) -> tuple[Tensor, Tensor]:
    """Return the weights [K, H / K * S, P] and the output [H, S, D] of a tile's S queries."""
    kv, s = len(k), q.shape[1]
    scores = torch.bmm(_by_key_head(q, kv), k[:, : tile.keys].transpose(1, 2))
    scores.view(kv, -1, s, tile.keys).add_(tile.mask)
    weights = _softmax(scores)
    return weights, torch.bmm(weights, v[:, : tile.keys]).view(q.shape)


def _tile_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, weights: Tensor, tile: Tile, grads: _Grads
) -> None:
    """Add a tile's part to the gradients; `grad` is [S, H, D]."""
    kv, p = len(k), tile.keys
    own, g = (_by_key_head(x, kv) for x in (q[:, tile.start : tile.end], grad.transpose(0, 1)))
    down = _softmax_backward(torch.bmm(g, v[:, :p].transpose(1, 2)), weights)
    grads.q[:, tile.start : tile.end] = torch.bmm(down, k[:, :p]).view(len(q), len(grad), -1)
    grads.k[:, :p] += torch.bmm(down.transpose(1, 2), own)
    grads.v[:, :p] += torch.bmm(weights.transpose(1, 2), g)


def _gathered(q: Tensor, k: Tensor, v: Tensor, block: Block) -> _Own:
    """Lay a block's branches side by side."""
    heads, g = len(q), len(block.rows)
    rows = block.rows.flatten()
    k_own, v_own = (
        repeated(x.index_select(1, rows), heads).view(heads * g, -1, x.shape[-1]) for x in (k, v)
    )
    return _Own(q.index_select(1, block.queries.flatten()), k_own, v_own)


def _block(own: _Own, k: Tensor, v: Tensor, block: Block) -> tuple[Tensor, Tensor]:
    """Return the weights [H * G, S, P + T] and the output [H, G * S, D] of a block.

    Args:
        own: its branches.
        k: keys of the stem [K, P, D].
        v: values of the stem.
        block: who sees whom.
    """
    heads, _, width = own.q.shape
    kv, p = k.shape[:2]
    g, s, t = block.mask.shape
    scores = own.q.new_empty(heads * g, s, p + t)
    near = torch.bmm(own.q.view(heads * g, s, width), own.k.transpose(1, 2))
    torch.add(near.view(heads, g, s, t), block.mask, out=scores.view(heads, g, s, p + t)[..., p:])
    far = scores.view(kv, -1, p + t)[..., :p]
    if p:
        torch.bmm(_by_key_head(own.q, kv), k.transpose(1, 2), out=far)
    weights = _softmax(scores)
    out = torch.bmm(weights[..., p:], own.v)
    if p:
        out.view(kv, -1, width).baddbmm_(weights.view(kv, -1, p + t)[..., :p], v)
    return weights, out.view(heads, g * s, width)


def _block_backward(
    grad: Tensor,
    own: _Own,
    stem: tuple[Tensor, Tensor],
    weights: Tensor,
    block: Block,
    grads: _Grads,
) -> Tensor:
    """Add a block's part to the gradients of keys and values; return that of its queries.

    Args:
        grad: of the outputs [m, H, D] of the queries that are no padding.
        own: the block's branches.
        stem: keys and values of the stem [K, P, D].
        weights: what `_block` returned.
        block: who sees whom.
        grads: of keys and values.

    Returns:
        [H, G * S, D].
    """
    heads, _, width = own.q.shape
    k, v = stem
    kv, p = k.shape[:2]
    g, s, t = block.mask.shape
    spread = grad.transpose(0, 1).contiguous()
    if len(grad) < g * s:
        spread = spread.new_zeros(heads, g * s, width).index_copy_(1, block.asked, spread)
    near_g, far_g = spread.view(heads * g, s, width), spread.view(kv, -1, width)
    both = torch.empty_like(weights)
    both[..., p:] = torch.bmm(near_g, own.v.transpose(1, 2))
    if p:
        torch.bmm(far_g, v.transpose(1, 2), out=both.view(kv, -1, p + t)[..., :p])
    down = _softmax_backward(both, weights)
    q_near, q_far = own.q.view(heads * g, s, width), _by_key_head(own.q, kv)
    down_q = torch.bmm(down[..., p:], own.k)
    if p:
        far, far_weights = (x.view(kv, -1, p + t)[..., :p] for x in (down, weights))
        down_q.view(kv, -1, width).baddbmm_(far, k)
        grads.k[:, :p] += torch.bmm(far.transpose(1, 2), q_far)
        grads.v[:, :p] += torch.bmm(far_weights.transpose(1, 2), far_g)
    first, last = block.span
    for into, part in (
        (grads.k, torch.bmm(down[..., p:].transpose(1, 2), q_near)),
        (grads.v, torch.bmm(weights[..., p:].transpose(1, 2), near_g)),
    ):
        summed = part.view(kv, heads // kv, g * t, width)
        one = summed[:, 0] if heads == kv else summed.sum(1)
        into[:, first:last] = _picked(one, block.real)
    return down_q.view(heads, g * s, width)


def _picked(x: Tensor, real: Tensor) -> Tensor:
    """Return the entries of dimension 1 that are no padding."""
    return x if len(real) == x.shape[1] else x.index_select(1, real)


def _by_key_head(q: Tensor, kv: int) -> Tensor:
    """Put the queries of all heads that share keys under each other: [K, H / K * S, D]."""
    return q.reshape(kv, -1, q.shape[-1])


def repeated(x: Tensor, heads: int) -> Tensor:
    """Repeat keys or values [K, N, D] for every head that shares them: [H, N, D]."""
    return x if len(x) == heads else x.repeat_interleave(heads // len(x), 0)


def _softmax(scores: Tensor) -> Tensor:
    """Return softmax over the last dimension, computed in float32 or more."""
    wide = torch.promote_types(scores.dtype, torch.float32)
    return scores.softmax(-1, dtype=wide).to(scores.dtype)


def _softmax_backward(grad: Tensor, weights: Tensor) -> Tensor:
    """Return the gradient of the scores from that of the weights."""
    wide = torch.promote_types(weights.dtype, torch.float32)
    down = torch._softmax_backward_data(grad.to(wide), weights.to(wide), -1, wide)
    return down.to(weights.dtype)
