"""Operations with a backward pass of their own, against plain formulas and numeric gradients."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from savile.lm.attend import attend
from savile.lm.changes import change_input, change_output
from savile.lm.kernels import gated, norm, rotate
from savile.lm.layout import Layout, asking, plan
from savile.lm.maps import Added, mapped
from savile.lm.output_head import chosen_logprobs
from savile.lm.sites import LinearSite
from savile.lm.tree import Paths, Tree, build
from tests import tiny

CPU = torch.device("cpu")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=rng, dtype=torch.float64).requires_grad_()


def test_norm() -> None:
    x, weight = drawn(5, 8), drawn(8)
    wanted = nn.functional.rms_norm(x, (8,), weight, 1e-6)
    torch.testing.assert_close(norm(x, weight, 1e-6), wanted)
    assert gradcheck(lambda a, b: norm(a, b, 1e-6), (x, weight))


def test_rotate_turns_pairs_of_halves() -> None:
    x, angle = drawn(5, 2, 8), drawn(5, 4).detach()
    cos, sin = (torch.cat([f(angle)] * 2, 1) for f in (torch.cos, torch.sin))
    one, two = x.transpose(0, 1).chunk(2, -1)
    turned = torch.cat(
        [one * cos[:, :4] - two * sin[:, :4], two * cos[:, 4:] + one * sin[:, 4:]], -1
    )
    torch.testing.assert_close(rotate(x, cos, sin), turned)
    assert gradcheck(lambda a: rotate(a, 3 * cos, 3 * sin), (x,))


def test_gated() -> None:
    gate, up = drawn(3, 6), drawn(3, 6, seed=1)
    torch.testing.assert_close(gated(gate, up), nn.functional.silu(gate) * up)
    assert gradcheck(gated, (gate, up))


@pytest.mark.parametrize(("rows", "columns"), [(512, 4096), (2, 3)])
def test_chosen_logprobs_in_one_tile_and_in_many(
    rows: int, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("savile.lm.output_head.ROWS", rows)
    monkeypatch.setattr("savile.lm.output_head.COLUMNS", columns)
    hidden, weight = drawn(5, 4), drawn(11, 4)
    source, token = torch.tensor([0, 0, 1, 3, 4, 4, 4]), torch.tensor([3, 10, 0, 9, 5, 5, 1])
    wanted = (hidden @ weight.T).log_softmax(-1)[source, token]
    torch.testing.assert_close(chosen_logprobs(hidden, weight, source, token), wanted)
    assert gradcheck(lambda h, w: chosen_logprobs(h, w, source, token), (hidden, weight))
    frozen = weight.detach()
    assert gradcheck(lambda h: chosen_logprobs(h, frozen, source, token), (hidden,))
    logits = (50 * hidden) @ (50 * weight).T
    far = chosen_logprobs(50 * hidden, 50 * weight, source, token)
    torch.testing.assert_close(far, logits.log_softmax(-1)[source, token])


@pytest.mark.parametrize("trains", [False, True])
@pytest.mark.parametrize("enabled", [False, True])
def test_maps_of_one_input(enabled: bool, trains: bool) -> None:
    x = drawn(5, 4)
    modules = [nn.Linear(4, size, bias=size > 3).double().requires_grad_(trains) for size in (3, 6)]
    factors = [(drawn(2, 4, seed=n), drawn(size, 2, seed=n)) for n, size in enumerate((3, 6))]
    updates = [Added(a, b, 0.5, lambda: enabled) for a, b in factors]
    weights = [p for module in modules for p in module.parameters()] if trains else []

    wanted = [update(x, module(x)) for module, update in zip(modules, updates, strict=True)]
    leaves = [x, *weights, *(itertools.chain(*factors) if enabled else ())]
    downs = torch.autograd.grad(sum(y.square().sum() for y in wanted), leaves)
    for module, update in zip(modules, updates, strict=True):
        site = LinearSite("map", module, module.in_features, module.out_features, False)
        change_output(site, update)
    got = mapped(x, modules)
    ours = torch.autograd.grad(sum(y.square().sum() for y in got), leaves)
    for one, two in zip([*got, *ours], [*wanted, *downs], strict=True):
        torch.testing.assert_close(one, two)


def test_maps_with_other_changes_are_called_themselves() -> None:
    x, module = drawn(5, 4), nn.Linear(4, 4).double()
    site = LinearSite("map", module, 4, 4, False)
    change_input(site, lambda y: 2 * y)
    change_output(site, lambda y, h: h + y.sum())
    change_output(site, Added(drawn(2, 4), drawn(4, 2), 0.5, lambda: True))
    torch.testing.assert_close(mapped(x, [module])[0], module(x))
    assert not torch.allclose(module(x), module.forward(x))


def seen(tree: Tree) -> Tensor:
    """Return which nodes each node sees, bool [N, N]."""
    table = torch.zeros(len(tree), len(tree), dtype=torch.bool)
    for node in range(len(tree)):
        table[node, tree.path(node)] = True
    return table


def plainly(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> Tensor:
    k, v = (x.repeat_interleave(len(q) // len(x), 0) for x in (k, v))
    scores = (q @ k.transpose(1, 2)).masked_fill(~allowed, float("-inf"))
    return (scores.softmax(-1, dtype=q.dtype) @ v).transpose(0, 1)


def layouts(tree: Tree) -> dict[str, Layout]:
    whole = plan(tree, CPU)
    few = asking(whole, np.unique(tree.targets.source))
    return {"whole": whole, "few": few, "last": asking(whole, np.array([len(tree) - 1]))}


GROUPS = {
    "branches": tiny.groups(),
    "a stem alone": [Paths([1, 30, 31], [[50, 51, 4]])],
    "no stem": [Paths([30, 31], [[50, 4]]), Paths([40, 41, 42], [[51, 4], [52, 4]])],
    "blocks": [Paths([1, 2], [[n, *range(40, 40 + 6 * n)] for n in range(4, 9)])],
}


@pytest.mark.parametrize("kind", ["whole", "few", "last"])
@pytest.mark.parametrize("heads", [2, 4])
@pytest.mark.parametrize("case", sorted(GROUPS))
@pytest.mark.parametrize(("tile", "long"), [(256, 1024), (2, 1024), (256, 0)])
def test_attention(
    case: str, heads: int, kind: str, tile: int, long: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("savile.lm.layout.TILE", tile)
    monkeypatch.setattr("savile.lm.layout.LONG", long)
    tree = build(GROUPS[case])
    layout = layouts(tree)[kind]
    q, k, v = drawn(heads, len(layout.asked), 4), drawn(2, len(tree), 4), drawn(2, len(tree), 4)
    got = attend(q, k, v, layout)
    wanted = plainly(q, k, v, seen(tree)[layout.asked])
    torch.testing.assert_close(got, wanted)
    down = drawn(*wanted.shape, seed=1).detach()
    ours, theirs = (torch.autograd.grad((x * down).sum(), (q, k, v)) for x in (got, wanted))
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two)
