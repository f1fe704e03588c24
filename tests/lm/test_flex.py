"""Attention in one kernel: who sees whom, the same numbers as `attend.py`, and when it is taken."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import flex_attention

from savile.deltas.lora import LoRA
from savile.lm import flex
from savile.lm.attend import attend
from savile.lm.layout import Layout, asking, plan
from savile.lm.model import LM
from savile.lm.prefix import Prefix, Root
from savile.lm.sparse import BLOCK, ends, sparse
from savile.lm.tree import Paths, Tree, build
from tests import tiny
from tests.contracts.tree_gate import gradients, shake

CPU = torch.device("cpu")
HEADS = (4, 2, 16)
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
UNCOMPILED = pytest.mark.filterwarnings(
    "ignore:flex_attention called without", "ignore:The .grad attr"
)

tokens = st.integers(0, 2)
paths = st.lists(tokens, min_size=1, max_size=7)
some_groups = st.lists(
    st.builds(Paths, paths, st.lists(paths, max_size=3), st.none()), min_size=1, max_size=6
)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernel run as it is written, without a compiler, on the CPU: PyTorch has its backward
    pass there, but refuses it because the compiled kernel has none."""
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *tensors: None)
    monkeypatch.setattr(flex, "_kernel", lambda: flex.over_blocks)


def deep(seed: int, stem: int, size: int) -> Tree:
    """Return a tree with branches that branch again and again."""
    rng = np.random.default_rng(seed)
    known = [list(range(stem))]
    groups = []
    while sum(len(group.completions[0]) for group in groups) < size:
        above = known[rng.integers(len(known))]
        kept = above[: rng.integers(stem, len(above) + 1)]
        known.append([*kept, *rng.integers(0, 9, rng.integers(1, 30)).tolist()])
        groups.append(Paths(known[-1] or [0], [[1, *rng.integers(0, 9, 5).tolist()]]))
    return build(groups)


def plainly(q: Tensor, k: Tensor, v: Tensor, layout: Layout, tree: Tree, root: int) -> Tensor:
    """Return what queries read of root and ancestors, from a dense mask made node by node."""
    table = torch.zeros(root + len(tree), root + len(tree), dtype=torch.bool)
    table[:root, :root] = torch.ones(root, root, dtype=torch.bool).tril()
    table[root:, :root] = True
    for node in range(len(tree)):
        table[root + node, [root + above for above in tree.path(node)]] = True
    k, v = (x.repeat_interleave(len(q) // len(x), 0) for x in (k, v))
    scores = (q @ k.transpose(1, 2)).masked_fill(~table[layout.queries], float("-inf"))
    return (scores.softmax(-1) @ v).transpose(0, 1)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(some_groups, st.integers(0, 3))
def test_two_numbers_a_position_say_who_sees_whom(groups: list[Paths], root: int) -> None:
    tree = build(groups)
    end = plan(tree, CPU, root).end
    for i in range(root + len(tree)):
        ancestors = [root + node for node in tree.path(i - root)] if i >= root else []
        wanted = [*range(min(root, i + 1)), *ancestors]
        assert [j for j in range(len(end)) if j <= i < end[j]] == wanted


@pytest.mark.parametrize("seed", range(4))
def test_blocks_are_full_or_in_part_or_left_out(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("savile.lm.sparse.BLOCK", 8)
    rng = np.random.default_rng(seed)
    depth = plan(deep(seed, 10 * seed, 150), CPU, root=3).depth.numpy()
    n, end = len(depth), ends(depth)
    here = np.sort(rng.permutation(n)[: n // (1 + seed % 2)])
    sees = (np.arange(n) <= here[:, None]) & (here[:, None] < end)
    pairs = sparse(here, end, CPU)
    a, b = -(-len(here) // 8), -(-n // 8)
    some, full = np.zeros((a, b), bool), np.zeros((a, b), bool)
    for table, many, which in (
        (some, pairs.some, pairs.some_keys),
        (full, pairs.full, pairs.full_keys),
    ):
        for row in range(a):
            table[row, which[0, 0, row, : int(many[0, 0, row])]] = True
    for table, many, which in (
        (some, pairs.seen, pairs.seen_by),
        (full, pairs.wholly, pairs.wholly_by),
    ):
        for column in range(b):
            rows = np.flatnonzero(table[:, column])
            assert which[0, 0, column, : int(many[0, 0, column])].tolist() == rows.tolist()
    assert not (some & full).any()
    for row in range(a):
        for column in range(b):
            pair = sees[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            assert not full[row, column] or (pair.all() and pair.shape == (8, 8))
            assert some[row, column] or full[row, column] or not pair.any()
    assert full.any()
    assert (~some & ~full).any()


@UNCOMPILED
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("stem", "root", "silent", "few"),
    [(0, 0, 0, False), (300, 2, 0, True), (40, 5, 4, False), (0, 4, 3, True)],
)
def test_it_is_the_attention_of_the_tree(
    stem: int, root: int, silent: int, few: bool, dtype: torch.dtype
) -> None:
    tree = deep(7, stem, 320)
    layout = plan(tree, CPU, root, silent)
    if few:
        layout = asking(layout, layout.queries[::2])
    rng = torch.Generator().manual_seed(1)
    many, shared, width = HEADS
    shapes = [(many, len(layout.queries)), (shared, root + len(tree)), (shared, root + len(tree))]
    leaves = [
        torch.randn(h, n, width, generator=rng, dtype=dtype).mul_(0.5).requires_grad_()
        for h, n in shapes
    ]
    q, k, v = leaves
    down = torch.randn(shapes[0][1], many, width, generator=rng, dtype=dtype)
    found = []
    for out in (
        flex.fused(q, k, v, layout),
        attend(q, k, v, layout),
        plainly(q, k, v, layout, tree, root),
    ):
        found.append([out, *torch.autograd.grad((out * down).sum(), leaves)])
    ours, *others = found
    for other in others:
        for one, two in zip(ours, other, strict=True):
            limit = 1e-10 if dtype == torch.float64 else 1e-5
            torch.testing.assert_close(one, two, rtol=limit, atol=limit)


@UNCOMPILED
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    ("heads", "dtype", "training"),
    [
        (HEADS, torch.float32, True),
        (HEADS, torch.bfloat16, True),
        ((3, 3, 20), torch.float32, False),
        ((14, 2, 64), torch.bfloat16, False),
    ],
)
def test_the_test_of_equality_passes_what_is_equal(
    heads: flex.Heads, dtype: torch.dtype, training: bool
) -> None:
    assert flex.same(flex.fused, CPU, dtype, heads, training)


def failing(error: Exception) -> flex.Run:
    def run(*given: Any) -> Tensor:
        raise error

    return run


class Halved(torch.autograd.Function):
    """The same values, half the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad / 2


def wrong_gradient(q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
    return attend(q, Halved.apply(k), v, layout)


def not_a_number(q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
    out = attend(q, k, v, layout)
    return out.masked_fill(torch.arange(len(out))[:, None, None] == 5, float("nan"))


def sees_all_before(q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
    allowed = torch.arange(k.shape[1]) <= layout.asked[:, None]
    k, v = (x.repeat_interleave(len(q) // len(x), 0) for x in (k, v))
    scores = (q @ k.transpose(1, 2)).masked_fill(~allowed, float("-inf"))
    return (scores.softmax(-1) @ v).transpose(0, 1)


def sees_one_key_less(q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
    return attend(q, torch.cat([k[:, :1] - 100, k[:, 1:]], 1), v, layout)


@pytest.mark.parametrize(
    ("run", "in_training_alone"),
    [
        (failing(ImportError("no triton")), False),
        (failing(NotImplementedError("width of a head")), False),
        (sees_all_before, False),
        (sees_one_key_less, False),
        (not_a_number, False),
        (lambda q, k, v, layout: attend(q, k, v, layout) * 1.001, False),
        (lambda q, k, v, layout: attend(q, k, v, layout)[:-1], False),
        (wrong_gradient, True),
    ],
)
def test_the_test_of_equality_refuses_what_is_not(run: flex.Run, in_training_alone: bool) -> None:
    assert not flex.same(run, CPU, torch.float32, HEADS, training=True)
    assert flex.same(run, CPU, torch.float32, HEADS, training=False) is in_training_alone


def test_the_tree_it_tries_has_levels_and_numbers_of_its_own() -> None:
    for heads in (HEADS, (14, 2, 64), (5, 5, 64), (32, 8, 128)):
        few, whole = flex._plans(CPU, heads)
        sizes = [len(few.queries), len(few.end)]
        blocks = [-(-size // BLOCK) for size in sizes]
        assert len({*sizes, *blocks, *heads}) == 4 + len(set(heads))
        assert all(size % BLOCK for size in sizes)
        assert bool((few.sparse.full > 0).any())
        tops = np.diff(whole.depth.numpy()) != 1
        assert tops.sum() > 2 * len(whole.branches)  # branches that branch


def test_nothing_is_tried_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Any] = []
    monkeypatch.setattr(flex, "_known", lambda *args: not tried.append(args))
    assert not flex.agree([HEADS], torch.float32, plan(deep(1, flex.LEAST, 20), CPU))
    assert not tried


def test_a_last_layer_with_few_queries_is_left_to_the_products() -> None:
    layout = plan(deep(1, 200, 50), CPU)
    assert not flex.serves(layout)
    layout.fused = True
    assert flex.serves(layout)
    assert not flex.serves(asking(layout, layout.queries[:BLOCK]))


def attached(lm: LM) -> dict[str, Tensor]:
    delta = LoRA(r=4).attach(lm, 0)
    shake(delta)
    return delta.parameters()


def rooted(lm: LM) -> dict[str, Tensor]:
    """Put a prefix and virtual tokens before every sequence."""
    rng = torch.Generator().manual_seed(0)
    width = lm.sites.embedding_weight.shape[1]
    leaves = {
        "keys": torch.randn(2, 3, 8, generator=rng).requires_grad_(),
        "values": torch.randn(2, 3, 8, generator=rng).requires_grad_(),
        "vectors": torch.randn(2, width, generator=rng).requires_grad_(),
    }
    layers = len(lm.sites.layers())
    lm.prefix = Prefix(3, lambda: [(leaves["keys"], leaves["values"])] * layers)
    lm.root = Root(2, lambda: leaves["vectors"])
    return leaves


@UNCOMPILED
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(("own", "prepared"), [(True, attached), (True, rooted), (False, rooted)])
def test_a_model_gives_the_same_loss_and_gradients(
    own: bool, prepared: Callable[[LM], dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = tiny.lm("llama")
    if not own:
        lm._own = None
    leaves, tree = prepared(lm), deep(3, 60, 250)
    ran: list[int] = []

    def counted(q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        ran.append(q.shape[1])
        return fused(q, k, v, layout)

    fused = flex.fused
    monkeypatch.setattr("savile.lm.attention.fused", counted)
    found = []
    for used in (False, True):
        monkeypatch.setattr("savile.lm.model.agree", lambda *args, used=used: used)
        loss = -lm.logprobs(tree).mean()
        found.append((loss.detach(), gradients(loss, leaves)))
        assert bool(ran) is used
    layers = len(lm.sites.layers())
    assert len(ran) == layers
    (wanted, theirs), (loss, ours) = found
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=0)
    for name, gradient in theirs.items():
        assert float((ours[name] - gradient).norm() / gradient.norm()) <= 1e-5, name


@CUDA
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("heads", [HEADS, (14, 2, 64), (32, 8, 128)])
def test_the_compiled_kernel_is_equal_and_compiled_for_all_lengths(
    heads: flex.Heads, dtype: torch.dtype
) -> None:
    device = torch.device("cuda")
    for training in (False, True):
        assert flex.same(flex.fused, device, dtype, heads, training)
    torch._dynamo.config.error_on_recompile = True
    try:
        for size in (700, 900, 1500):
            layout = plan(deep(size, 100, size), device)
            assert flex._close(flex.fused, layout, dtype, heads, True)
    finally:
        torch._dynamo.config.error_on_recompile = False
