"""Deltas that train the base's own parameters give the numbers and gradients of plain transformers.

The reference is another copy of the model with the same parameters, its eager attention, and one
sequence at a time; where a base has no biases, it gets them on its linear maps.
"""

import pytest
import torch
from torch import Tensor, nn

from savile.deltas.base import Delta
from savile.deltas.bitfit import BitFit
from savile.deltas.full import Full
from savile.deltas.last_layers import LastLayers
from tests import tiny
from tests.contracts.tree_gate import gradients, shake
from tests.gates import Gate
from tests.parity.peft_files import close, our_logprobs, relative, their_logprobs


def plain(family: str, state: dict[str, Tensor]) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return a model with a state, and its parameters of that name."""
    model = tiny.model(family)
    model.set_attn_implementation("eager")
    for name, tensor in state.items():
        place, _, kind = name.rpartition(".")
        own = model.get_submodule(place)
        if getattr(own, kind) is None:
            own.register_parameter(kind, nn.Parameter(tensor.clone()))
        with torch.no_grad():
            own.get_parameter(kind).copy_(tensor)
    return model, {name: model.get_parameter(name) for name in state}


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt_neox"])
@pytest.mark.parametrize(
    "delta", [Full(), LastLayers(n=1), BitFit()], ids=lambda d: type(d).__name__
)
def test_numbers_and_gradients_are_those_of_the_model(
    delta: Delta, family: str, gate: Gate
) -> None:
    lm = tiny.lm(family)
    with delta.attach(lm, 0) as attached:
        shake(attached)
        ours, state = our_logprobs(lm), attached.state()
        got = gradients(-ours.mean(), attached.parameters())
    model, own = plain(family, state)
    theirs = their_logprobs(model)
    wanted = gradients(-theirs.mean(), own)
    gate(delta, "parity", close(ours.detach(), theirs.detach()), "transformers, log p")
    gate(delta, "parity", relative(got, wanted), "transformers, gradient")
