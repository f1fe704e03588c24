"""Attention over a token tree, registered with transformers under the name `savile_tree`.

A query of the stem sees the stem causally. A query of a branch sees the whole stem and its
ancestors within the branch: one softmax over the concatenated scores, so the result is exactly
that of the separate sequence. Only public API is used: `AttentionInterface.register`, and keyword
arguments of `forward` that transformers hands through to the attention function.

The keys and values of a prefix (Li & Liang 2021) are further keys of the stem, to which no query
belongs.

Source: Vaswani et al. 2017, arXiv 1706.03762, equation 1.

Cost: G * T * (P + T) score entries,
against G * (P + T)^2 for separate sequences.

Shape legend: H heads, K key-value heads, N packed tokens, P stem, G branches, T branch length, D
head width.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface

from savile.lm.running import attend_step
from savile.lm.store import Store
from savile.lm.tree import KeysValues, Layout

NAME: Final = "savile_tree"


def tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    tree: Layout | Store | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend along the tree; the signature is that of transformers' attention functions.

    Args:
        module: the attention layer (its `layer_idx` names the cache entry).
        query: [1, H, N, D]; `key` and `value`: [1, K, N, D].
        scaling: factor of the scores; 1/sqrt(D) when None.
        tree: the plan of a whole tree, or the store of running generations.
        options: `sliding_window` (how far back a layer sees, in positions) and `softcap` (limit
            of the scores) are obeyed; what else a model passes shows in the probe if it matters.

    Returns:
        [1, N, H, D] and None (no attention weights are kept).

    Raises:
        ValueError: called without a plan.
    """
    sliding_window, softcap = options.get("sliding_window"), options.get("softcap")
    if tree is None:
        raise ValueError(
            "the savile_tree attention needs its plan: call the model through savile.lm"
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer, tokens = int(module.layer_idx), query.shape[2]  # type: ignore[arg-type]
    if isinstance(tree, Layout) and tree.prefix:
        query, key, value = _behind(tree.prefix[layer], query, key, value)
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    q, k, v = query[0], key[0], value[0]
    if isinstance(tree, Store):
        out = attend_step((q * scale, k, v), tree, layer, sliding_window, softcap)
    else:
        tree.calls += 1
        if tree.keep is not None:
            tree.keep[layer] = (k, v)
        out = _whole(q * scale, k, v, tree, sliding_window, softcap)
    return out[:, -tokens:].transpose(0, 1).unsqueeze(0), None


def _behind(
    prefix: KeysValues, query: Tensor, key: Tensor, value: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Put n keys and values [K, n, D] before packed ones, with queries that nobody reads.

    The n empty queries cost n of N + n rows of the stem's scores, and leave every index of the plan
    the same for queries and keys.
    """
    keys, values = prefix
    return (
        functional.pad(query, (0, 0, keys.shape[1], 0)),
        torch.cat([keys[None].to(key.dtype), key], 2),
        torch.cat([values[None].to(value.dtype), value], 2),
    )


def _whole(
    q: Tensor, k: Tensor, v: Tensor, tree: Layout, window: int | None, softcap: float | None
) -> Tensor:
    """Attend over all nodes of a tree: [H, N, D] -> [H, N, D]."""
    p = tree.stem
    parts = []
    if p:
        parts.append(_stem(q[:, :p], k[:, :p], v[:, :p], tree, window, softcap))
    heads = q.shape[0]
    for block in tree.blocks:
        g, t = block.rows.shape
        flat = block.rows.flatten()
        q_own, k_own, v_own = (x.index_select(1, flat).view(heads, g, t, -1) for x in (q, k, v))
        allowed, seen_stem = block.allowed, None
        if window is not None:
            depth = tree.depth[block.rows]
            allowed = allowed & (depth[:, :, None] - depth[:, None, :] < window)
            seen_stem = depth[:, :, None] - tree.depth[:p] < window
        own = _attend(q_own, (k[:, :p], v[:, :p]), (k_own, v_own), (seen_stem, allowed), softcap)
        parts.append(own.flatten(1, 2)[:, block.valid.flatten()])
    return torch.cat(parts, 1)


def _stem(
    q: Tensor, k: Tensor, v: Tensor, tree: Layout, window: int | None, softcap: float | None
) -> Tensor:
    """Attend causally within the stem: [H, P, D] -> [H, P, D]."""
    if window is None and softcap is None:
        out = functional.scaled_dot_product_attention(
            q[None], k[None], v[None], is_causal=True, scale=1.0
        )
        return out[0]
    depth = tree.depth[: tree.stem]
    back = depth[:, None] - depth[None, :]
    allowed = (back >= 0) & (back < (window or len(depth) + 1))
    empty = k[:, :0]
    out = _attend(
        q[:, None], (empty, empty), (k[:, None], v[:, None]), (None, allowed[None]), softcap
    )
    return out[:, 0]


def _attend(
    q: Tensor,
    stem: tuple[Tensor, Tensor],
    own: tuple[Tensor, Tensor],
    masks: tuple[Tensor | None, Tensor],
    softcap: float | None,
) -> Tensor:
    """One softmax over stem and own keys.

    Args:
        q: scaled queries [H, G, T, D].
        stem: keys and values every query may see, [H, P, D].
        own: keys and values of each branch, [H, G, S, D].
        masks: who sees which stem key [G, T, P] (None: all) and which own key [G, T, S].
        softcap: soft limit of the scores.

    Returns:
        [H, G, T, D].
    """
    heads, g, t, width = q.shape
    p = stem[0].shape[1]
    scores = q @ own[0].transpose(-1, -2)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~masks[1], float("-inf"))
    if not p:
        return scores.softmax(-1, dtype=torch.float32).to(q.dtype) @ own[1]
    far = (q.reshape(heads, g * t, width) @ stem[0].transpose(-1, -2)).view(heads, g, t, p)
    if softcap is not None:
        far = softcap * torch.tanh(far / softcap)
    if masks[0] is not None:
        far = far.masked_fill(~masks[0], float("-inf"))
    weights = torch.cat([far, scores], -1).softmax(-1, dtype=torch.float32).to(q.dtype)
    out = (weights[..., :p].reshape(heads, g * t, p) @ stem[1]).view(heads, g, t, width)
    return out + weights[..., p:] @ own[1]


AttentionInterface.register(NAME, tree_attention)
