"""Attention of tokens that are appended to running sequences, over what a store holds for them.

One softmax over the scores of the shared stem, whose keys all tokens see, and of the slots of the
token's own sequence. The stem's part is one product for all tokens however they are spread over the
sequences; only the products with a sequence's own slots pad sequences to the same number of tokens.

Cost: N * (P + C') score entries for N tokens.

Shape legend: H heads, P stem, A sequences, E most tokens of a sequence, N tokens, C' slots in use,
D head width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from savile.lm.store import Step, Store


def attend_step(
    qkv: tuple[Tensor, Tensor, Tensor],
    store: Store,
    layer: int,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Write the new keys and values into the store and attend: [H, N, D].

    Args:
        qkv: scaled queries, keys and values of the new tokens, [H, N, D] each.
        store: what was computed before, with its step announced.
        layer: number of the layer.
        window: how far back the layer sees, in positions.
        softcap: soft limit of the scores.

    Raises:
        ValueError: no step was announced.
    """
    step = store.step
    if step is None:
        raise ValueError("announce the step with `append` before the model computes it")
    q, k, v = qkv
    keys, values = store.keys[layer], store.values[layer]
    for held, new in ((keys, k), (values, v)):
        held.view(-1, held.shape[-1]).index_copy_(
            0, step.lines(*held.shape[1:3]), new.flatten(0, 1)
        )
    p, used = store.stem_depth, step.mask.shape[-1]
    far = q @ store.stem_keys[layer]
    own = _tokens(_table(q, step, len(keys)) @ keys[:, :, :used].transpose(-1, -2), step)
    if softcap is not None:
        far, own = (softcap * torch.tanh(x / softcap) for x in (far, own))
    scores = torch.cat([far, own + step.mask.to(own.dtype)], -1)
    if window is not None:
        here = step.depth[:, None]
        before = torch.arange(p, device=q.device).expand(len(here), -1)
        depth = torch.cat([before, store.slot_depth[step.rows, :used]], 1)
        scores.masked_fill_(here - depth >= window, float("-inf"))
    weights = scores.softmax(-1, dtype=torch.float32).to(q.dtype)
    near = _table(weights[..., p:], step, len(keys)) @ values[:, :, :used]
    return weights[..., :p] @ store.stem_values[layer] + _tokens(near, step)


def _table(packed: Tensor, step: Step, rows: int) -> Tensor:
    """Spread [H, N, X] over the sequences: [A, H, E, X]."""
    heads, _, size = packed.shape
    if step.places is not None:
        space = packed.new_zeros(rows * step.width, heads, size)
        space[step.places] = packed.transpose(0, 1)
        return space.view(rows, step.width, heads, size).transpose(1, 2)
    return packed.reshape(heads, rows, step.width, size).transpose(0, 1)


def _tokens(table: Tensor, step: Step) -> Tensor:
    """Gather [A, H, E, X] token by token: [H, N, X]."""
    if step.places is not None:
        return table.transpose(1, 2).flatten(0, 1)[step.places].transpose(0, 1)
    return table.transpose(0, 1).flatten(1, 2)
