"""Attention over a token tree, registered with transformers under the name `savile_tree`.

A query of the stem sees the stem causally. A query of a branch sees the whole stem and its
ancestors within the branch: one softmax over the concatenated scores, so the result is exactly
that of the separate sequence. Only public API is used: `AttentionInterface.register`, and keyword
arguments of `forward` that transformers hands through to the attention function.

The keys and values of a prefix (Li & Liang 2021) are further keys of the stem, to which no query
belongs. Layers that see a window or limit their scores are computed here, all others in
`attend.py`, or on a GPU in `flex.py`.

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
from transformers import AttentionInterface

from savile.lm.attend import attend, repeated
from savile.lm.flex import fused, serves
from savile.lm.layout import Layout
from savile.lm.running import attend_step
from savile.lm.store import Store

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
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    if isinstance(tree, Layout):
        out = whole(query[0] * scale, key[0], value[0], tree, layer, sliding_window, softcap)
    else:
        out = one_step(query[0] * scale, key[0], value[0], tree, layer, sliding_window, softcap)
    return out.unsqueeze(0), None


def whole(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tree: Layout,
    layer: int,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Attend over all nodes of a tree.

    Args:
        q: scaled queries [H, M, D].
        k: keys [K, N, D], those of the prefix not among them.
        v: values [K, N, D].
        tree: the plan.
        layer: number of the layer, which names its part of prefix and cache.
        window: how far back the layer sees, in positions.
        softcap: limit of the scores.

    Returns:
        [M, H, D].
    """
    tree.calls.append((len(q), len(k), q.shape[-1]))
    if tree.prefix:
        keys, values = tree.prefix[layer]
        k, v = torch.cat([keys.to(k.dtype), k], 1), torch.cat([values.to(v.dtype), v], 1)
    if tree.keep is not None:
        tree.keep[layer] = (repeated(k, len(q)), repeated(v, len(q)))
    if window is None and softcap is None:
        return fused(q, k, v, tree) if serves(tree) else attend(q, k, v, tree)
    return _limited(q, repeated(k, len(q)), repeated(v, len(q)), tree, window, softcap)


def one_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    store: Store,
    layer: int,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Attend from the new tokens of running sequences; arguments as those of `whole`."""
    keys, values = repeated(k, len(q)), repeated(v, len(q))
    return attend_step((q, keys, values), store, layer, window, softcap).transpose(0, 1)


def _limited(
    q: Tensor, k: Tensor, v: Tensor, tree: Layout, window: int | None, softcap: float | None
) -> Tensor:
    """Attend where a layer sees a window or limits its scores: [H, M, D] -> [M, H, D]."""
    p, here = tree.stem, tree.depth[tree.asked]
    parts = []
    if first := tree.on_stem:
        back = here[:first, None] - tree.depth[:p]
        allowed = (back >= 0) & (back < (window or len(tree.depth) + 1))
        empty = k[:, :0]
        masks = (None, allowed[None])
        own = (k[:, None, :p], v[:, None, :p])
        parts.append(_attend(q[:, None, :first], (empty, empty), own, masks, softcap)[:, 0])
    heads = q.shape[0]
    for block in tree.blocks:
        g, t = block.rows.shape
        rows, asked = block.rows.flatten(), block.queries + tree.causal
        q_own = q.index_select(1, asked.flatten()).view(heads, g, t, -1)
        k_own, v_own = (x.index_select(1, rows).view(heads, g, t, -1) for x in (k, v))
        allowed, seen_stem = block.mask == 0, None
        if window is not None:
            depth = tree.depth[block.rows]
            allowed = allowed & (depth[:, :, None] - depth[:, None, :] < window)
            seen_stem = depth[:, :, None] - tree.depth[:p] < window
        out = _attend(q_own, (k[:, :p], v[:, :p]), (k_own, v_own), (seen_stem, allowed), softcap)
        parts.append(out.flatten(1, 2)[:, block.asked])
    return torch.cat(parts, 1).transpose(0, 1)


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
