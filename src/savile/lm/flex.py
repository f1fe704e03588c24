"""Attention over a whole token tree in one kernel of the GPU: PyTorch's FlexAttention.

    out_i = sum_j softmax_j(q_i . k_j) v_j        over the j with  j <= i < end_j

The kernel keeps no scores and looks at blocks of pairs that somebody sees (`sparse.py`); keys and
values are not repeated for the heads that share them. It is compiled for the machine it runs on,
for all lengths at once. Whether it may be used is told by a test of equality (`agree`): values and
gradients against `attend.py` on a tree of the model's heads, when a tree is long enough for the
first time. Where it cannot be compiled or gives something else, `attend.py` stays.

Source: Dong, Feng, Guessous, Liang, He 2024, arXiv 2412.05496.

Cost: the pairs of the blocks that somebody sees; compiling once a process and kind of heads.

Shape legend: H heads, K key-value heads, M queries, N packed positions, D head width.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from savile.lm.attend import attend
from savile.lm.layout import Layout, asking, plan
from savile.lm.sparse import BLOCK, Sparse
from savile.lm.tree import Paths, build

Heads = tuple[int, int, int]
"""H, K and D of one layer."""
Run = Callable[[Tensor, Tensor, Tensor, Layout], Tensor]
"""An attention over a tree, from scaled queries [H, M, D], keys and values [K, N, D] and the plan
to [M, H, D]."""

LEAST: Final = 4 * BLOCK
"""Packed positions below which `attend.py` computes at most a few small products, and a process
that sees no longer tree compiles nothing."""
VARIANTS: Final = 64
"""Kinds of calls (heads, types, which of q, k, v train) the compiler may prepare; its own limit, 8,
would end a ladder of several deltas over two models."""
MARGIN: Final = 4.0
"""How many times the rounding error of `attend.py` is taken for rounding."""


def agree(heads: Collection[Heads], dtype: torch.dtype, layout: Layout) -> bool:
    """Return whether the kernel gives what `attend.py` gives, on the device of a plan.

    False without a look where nobody would gain: on a CPU, and for a short tree.

    Args:
        heads: those of the model's layers; empty where it runs on no tree.
        dtype: the type it computes in.
        layout: the plan of the tree that is computed next, in this mode of gradients.
    """
    device = layout.depth.device
    if device.type != "cuda" or len(layout.depth) < LEAST or not heads:
        return False
    if torch.is_autocast_enabled(device.type):
        dtype = torch.get_autocast_dtype(device.type)
    return all(_known(device, dtype, one, torch.is_grad_enabled()) for one in heads)


def serves(layout: Layout) -> bool:
    """Return whether the kernel computes these queries: with fewer, as in a last layer that is
    asked at few positions, the products of `attend.py` are small."""
    return layout.fused and len(layout.queries) > BLOCK


def fused(q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
    """Return what every query reads, [M, H, D]; arguments as those of `attend`."""
    device = q.device.type
    if torch.is_autocast_enabled(device):
        q, k, v = (x.to(torch.get_autocast_dtype(device)) for x in (q, k, v))
    with torch.autocast(device, enabled=False):
        out: Tensor = _kernel()(q[None], k[None], v[None], layout.sparse)
        return out[0].transpose(0, 1)


def same(run: Run, device: torch.device, dtype: torch.dtype, heads: Heads, training: bool) -> bool:
    """Return whether an attention gives what `attend.py` gives, but for rounding.

    Args:
        run: what is tried; whatever it raises says no.
        device: where.
        dtype: of queries, keys and values.
        heads: how many, and how wide.
        training: compare the gradients too.
    """
    try:
        with torch.autocast(device.type, enabled=False), torch.set_grad_enabled(training):
            return all(
                _close(run, layout, dtype, heads, training) for layout in _plans(device, heads)
            )
    except Exception:  # noqa: BLE001 - a compiler may miss anything and raise anything
        return False


@cache
def _known(device: torch.device, dtype: torch.dtype, heads: Heads, training: bool) -> bool:
    return same(fused, device, dtype, heads, training)


@cache
def _kernel() -> Callable[[Tensor, Tensor, Tensor, Sparse], Tensor]:
    """Return the attention, compiled at its first call."""
    torch._dynamo.config.recompile_limit = VARIANTS
    return torch.compile(over_blocks, dynamic=True, fullgraph=True)


def over_blocks(q: Tensor, k: Tensor, v: Tensor, pairs: Sparse) -> Tensor:
    """Return what every query [1, H, M, D] reads of keys and values [1, K, N, D].

    The mask is made in here, of tensors alone: a mask that is handed in holds lengths and a
    function, for which the compiler would write a kernel of its own each time they are others.
    """
    here, end = pairs.here, pairs.end

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= here[query]) & (here[query] < end[key])

    mask = BlockMask(
        seq_lengths=(q.shape[-2], k.shape[-2]),
        kv_num_blocks=pairs.some,
        kv_indices=pairs.some_keys,
        full_kv_num_blocks=pairs.full,
        full_kv_indices=pairs.full_keys,
        q_num_blocks=pairs.seen,
        q_indices=pairs.seen_by,
        full_q_num_blocks=pairs.wholly,
        full_q_indices=pairs.wholly_by,
        BLOCK_SIZE=(BLOCK, BLOCK),
        mask_mod=sees,
    )
    out: Tensor = flex_attention(q, k, v, block_mask=mask, scale=1.0, enable_gqa=True)
    return out


def _plans(device: torch.device, heads: Heads) -> list[Layout]:
    """Return the plans of one tree of several levels: with queries at some positions, then at all.

    The compiler takes sizes that are equal at its first sight for one size, so the numbers of
    blocks differ from each other and from those of heads.
    """
    few, many = [size for size in (3, 5, 7, 11, 13) if size not in heads][:2]
    rng = np.random.default_rng(0)
    stem = list(range(BLOCK + BLOCK // 4))
    groups: list[Paths] = []
    size = len(stem)
    while size < (many - 1) * BLOCK + BLOCK // 2:
        own = [len(groups), *range(int(rng.integers(1, 40)))]
        answers = [[n, *range(int(rng.integers(1, 20)))] for n in range(1, 4)]
        groups.append(Paths([*stem, *own], answers))
        size += len(own) + sum(len(answer) - 1 for answer in answers)
    whole = plan(build(groups), device)
    some = np.sort(rng.permutation(len(whole.end))[: few * BLOCK - BLOCK // 3])
    return [asking(whole, some), whole]


def _close(run: Run, layout: Layout, dtype: torch.dtype, heads: Heads, training: bool) -> bool:
    """Return whether both attentions are about as far from one in float64."""
    rng = torch.Generator().manual_seed(0)
    many, shared, width = heads
    device, sizes = layout.depth.device, (len(layout.queries), len(layout.end))
    shapes = [(many, sizes[0]), (shared, sizes[1]), (shared, sizes[1])]
    q, k, v = (torch.randn(n, h, width, generator=rng) for h, n in shapes)
    down = torch.randn(sizes[0], many, width, generator=rng).to(device, dtype)
    q = q * (2 * width**-0.5)
    given = [x.to(device, dtype).transpose(0, 1) for x in (q, k, v)]
    exact = _results(attend, [x.double() for x in given], down.double(), layout, training)
    known = _results(attend, given, down, layout, training)
    tried = _results(run, given, down, layout, training)
    eps = torch.finfo(dtype).eps
    for right, usual, new in zip(exact, known, tried, strict=True):
        rounding = torch.maximum((usual - right).abs().max(), eps * right.abs().max())
        if not bool((new - right).abs().max() <= MARGIN * rounding):
            return False
    return True


def _results(
    run: Run, given: list[Tensor], down: Tensor, layout: Layout, training: bool
) -> list[Tensor]:
    """Return the output and, in training, the gradients of queries, keys and values."""
    q, k, v = leaves = [x.detach().requires_grad_(training) for x in given]
    out = run(q, k, v, layout)
    gradients = torch.autograd.grad(out.flatten(1), leaves, down.flatten(1)) if training else ()
    return [part.detach().double() for part in (out, *gradients)]
