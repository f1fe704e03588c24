"""What a computation holds is counted, and layers that are computed twice hold less of the same."""

from collections.abc import Callable

import torch

from savile.deltas.lora import LoRA
from savile.lm.live import checkpointed, held_by
from savile.lm.model import LM
from savile.lm.tree import build
from tests import tiny

FLOAT = 4


def test_what_is_alive_at_once_is_counted() -> None:
    given = torch.zeros(1000)

    def both() -> None:
        one = given + 1
        two = one * 2  # noqa: F841 - both live
        one.view(10, 100).t().add_(1)  # views and in-place changes are no new memory

    def one_after_the_other() -> None:
        (given + 1).sum()
        (given + 1).sum()

    assert held_by(both) == 2 * 1000 * FLOAT
    assert held_by(one_after_the_other) == 1000 * FLOAT + FLOAT


def test_what_a_graph_keeps_is_alive() -> None:
    weight = torch.ones(1000, requires_grad=True)

    def forward() -> None:
        weight.exp().sin().exp().sum()

    assert held_by(forward) == 3 * 1000 * FLOAT
    assert held_by(torch.no_grad()(forward)) == 2 * 1000 * FLOAT


def gradients(lm: LM, work: Callable[[], object]) -> tuple[dict[str, torch.Tensor], int]:
    """Return the gradients of LoRA with no zero factor, and the bytes held on the way."""
    found = {}
    with LoRA(r=4).attach(lm, 0) as attached:
        rng = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in attached.parameters().values():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=rng))
        held = held_by(work)
        for name, parameter in attached.parameters().items():
            assert parameter.grad is not None
            found[name] = parameter.grad
    return found, held


def test_layers_computed_twice_give_the_same_gradients_and_hold_less() -> None:
    lm, tree = tiny.lm("llama"), build(tiny.groups())

    def step() -> None:
        lm.logprobs(tree).sum().backward()  # type: ignore[no-untyped-call]

    def lean() -> None:
        with checkpointed(lm):
            step()

    plain, whole = gradients(lm, step)
    again, less = gradients(lm, lean)
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    assert any(bool(grad.any()) for grad in plain.values())
    assert less < whole
    assert not [layer for layer in lm.sites.layers().values() if "forward" in vars(layer)]
