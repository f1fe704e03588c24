"""Bottleneck adapters against a reference of their own: modules put around a model's blocks.

No library has them for transformers 5, so the reference is built here: in a copy of the base, the
named module of every layer is replaced by one that computes the paper's formula with plain layers.
"""

from collections.abc import Mapping
from typing import Any, Final

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from savile.deltas.bottleneck import Bottleneck
from savile.errors import UsageError
from savile.lm.tree import Paths, build
from tests import tiny
from tests.contracts.tree_gate import eager, gradients, shake
from tests.gates import Gate

LIST: Final = {
    "gpt_neox": "gpt_neox.layers",
    "gpt2": "transformer.h",
    "bloom": "transformer.h",
    "gptj": "transformer.h",
}
"""Where the decoder layers are; elsewhere `model.layers`."""
AFTER: Final = {
    "gpt_neox": ("attention", "mlp"),
    "gpt2": ("attn", "mlp"),
    "gptj": ("attn", "mlp"),
    "bloom": ("self_attention.dense", "mlp.dense_4h_to_h"),  # its blocks add the residual
}
"""What gives the output of attention and feed-forward; elsewhere `self_attn` and `mlp`."""
OWN_NAME: Final = {"self_attention.dense": "self_attention", "mlp.dense_4h_to_h": "mlp"}
PLACEMENTS: Final = ("double_seq_bn", "seq_bn", "par_bn")
FAMILIES: Final = (*tiny.FAMILIES, *tiny.FALLBACK)
F: Final[Mapping[str, type[nn.Module]]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class Around(nn.Module):
    """A module with an adapter after it, or beside it."""

    def __init__(self, inner: nn.Module, adapter: nn.Module, parallel: bool, scale: float) -> None:
        super().__init__()
        self.inner, self.adapter, self.parallel, self.scale = inner, adapter, parallel, scale

    def forward(self, *inputs: Any, **options: Any) -> Any:
        out = self.inner(*inputs, **options)
        if self.parallel:
            return out + self.scale * self.adapter(inputs[0])
        if isinstance(out, tuple):
            return (out[0] + self.scale * self.adapter(out[0]), *out[1:])
        return out + self.scale * self.adapter(out)


def reference(
    family: str, delta: Bottleneck, state: Mapping[str, Tensor], scale: float
) -> tuple[PreTrainedModel, dict[str, nn.Parameter]]:
    """Return a model with adapters built in, and their parameters under our names."""
    model = tiny.model(family).requires_grad_(False)
    layers, own = LIST.get(family, "model.layers"), {}
    attention, feed_forward = AFTER.get(family, ("self_attn", "mlp"))
    parallel = delta.placement == "par_bn"
    for number, layer in enumerate(model.get_submodule(layers)):
        for name in [attention, feed_forward][delta.placement != "double_seq_bn" :]:
            block = f"{layers}.{number}.{OWN_NAME.get(name, name)}"
            down, up = (
                nn.utils.skip_init(nn.Linear, *weight.shape[::-1], bias=delta.bias)
                for weight in (
                    state[f"{block}.adapter_down.weight"],
                    state[f"{block}.adapter_up.weight"],
                )
            )
            for part, linear in (("down", down), ("up", up)):
                for kind, parameter in linear.named_parameters():
                    own[f"{block}.adapter_{part}.{kind}"] = parameter
            adapter = nn.Sequential(down, F[delta.non_linearity](), up)
            target = OWN_NAME.get(name, name) if parallel else name
            around = Around(layer.get_submodule(target), adapter, parallel, scale)
            layer.set_submodule(target, around)
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(state[name])
    return model, own


def their_logprobs(model: nn.Module) -> Tensor:
    found = []
    for prompt, completion in tiny.paths(tiny.groups()):
        ids = torch.tensor([[*prompt, *completion]])
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        rows = logits[-len(completion) - 1 : -1].log_softmax(-1)
        found.append(rows[range(len(completion)), completion])
    return torch.cat(found)


def compare(family: str, delta: Bottleneck, scale: float, gate: Gate) -> None:
    """Assert equal numbers and gradients, both with the library's own eager attention."""
    about = "the formula in plain layers"
    lm = tiny.lm(family)
    with delta.attach(lm, 0) as attached, eager(lm):
        shake(attached, 0.1)
        parts = [lm.logprobs(build([Paths(p, [c])])) for p, c in tiny.paths(tiny.groups())]
        ours = torch.cat(parts)
        got = gradients(ours.mean(), attached.parameters())
        model, own = reference(family, delta, attached.state(), scale)
    model.set_attn_implementation("eager")
    theirs = their_logprobs(model.eval())
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    wanted = gradients(theirs.mean(), dict(own))
    assert got.keys() == wanted.keys()
    gate(delta, "parity", float((ours - theirs).detach().abs().max()), f"{about}, log p")
    for name, gradient in got.items():
        error = float((gradient - wanted[name]).norm() / wanted[name].norm())
        assert error <= 1e-6, name
        gate(delta, "parity", error, f"{about}, gradient")


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_placement_is_the_papers(family: str, placement: Any, gate: Gate) -> None:
    delta = Bottleneck(placement=placement, reduction_factor=4.0)
    compare(family, delta, 4.0 if placement == "par_bn" else 1.0, gate)


@pytest.mark.parametrize("f", F)
def test_every_non_linearity_scale_and_no_bias(f: Any, gate: Gate) -> None:
    delta = Bottleneck(non_linearity=f, scaling=0.5, bias=False, reduction_factor=2.5)
    compare("llama", delta, 0.5, gate)


@pytest.mark.parametrize(("factor", "m"), [(1.0, 32), (2.5, 12), (16.0, 2), (1000.0, 1)])
@pytest.mark.parametrize(("placement", "adapters"), [*zip(PLACEMENTS, (4, 2, 2), strict=True)])
@pytest.mark.parametrize("bias", [True, False])
def test_its_size_is_the_formula(
    placement: Any, adapters: int, factor: float, m: int, bias: bool
) -> None:
    delta = Bottleneck(placement=placement, reduction_factor=factor, bias=bias)
    with delta.attach(tiny.lm("gpt2"), 0) as attached:
        size = sum(p.numel() for p in attached.parameters().values())
    assert size == adapters * (2 * m * tiny.WIDTH + bias * (m + tiny.WIDTH))


def test_two_seeds_start_apart() -> None:
    lm, starts = tiny.lm("llama"), []
    for seed in (0, 1):
        with Bottleneck().attach(lm, seed) as attached:
            starts.append(attached.state())
    differ = {name for name in starts[0] if not torch.equal(starts[0][name], starts[1][name])}
    assert differ == {name for name in starts[0] if name.endswith("adapter_down.weight")}


def test_a_base_it_does_not_know_is_refused_and_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny.lm("llama")
    monkeypatch.setattr(lm.model.model.layers[1], "self_attn", nn.Identity())
    hooks = sum(len(m._forward_hooks) for m in lm.model.modules())
    with pytest.raises(UsageError, match=r"does not know.*mlp in model\.layers\.1"):
        Bottleneck().attach(lm, 0)
    assert sum(len(m._forward_hooks) for m in lm.model.modules()) == hooks
