"""(IA)3 and LayerNorm tuning equal PEFT: numbers, gradients, and files in both directions."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LNTuningConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from savile.deltas.base import Delta, Peft
from savile.deltas.ia3 import IA3
from savile.deltas.layer_norm import LayerNorm
from tests import tiny
from tests.contracts.tree_gate import gradients, shake
from tests.gates import Gate
from tests.parity.peft_files import close, our_logprobs, read, relative, their_logprobs, write

FAMILIES = ("llama", "qwen2", "gpt2", "gpt_neox", "bloom")
DELTAS: dict[str, Delta] = {
    "ia3": IA3(),
    "ia3_attention": IA3(feedforward_modules=()),
    "layer_norm": LayerNorm(),
}
NORMS = {"gpt_neox": ["input_layernorm", "post_attention_layernorm", "final_layer_norm"]}
"""Targets of families that PEFT's LayerNorm tuning has no table for."""
pytestmark = [
    # PEFT 0.21 reads a name that transformers 5 renamed.
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    # PEFT's LayerNorm tuning asks norms for a number of input features, which they have not.
    pytest.mark.filterwarnings("ignore:Unsupported layer type .*[Nn]orm:UserWarning"),
]


@pytest.mark.parametrize("name", DELTAS)
@pytest.mark.parametrize("family", FAMILIES)
def test_our_files_load_in_peft(family: str, name: str, tmp_path: Path, gate: Gate) -> None:
    lm = tiny.lm(family)
    lm.model.save_pretrained(tmp_path / "base")
    with DELTAS[name].attach(lm, 0) as attached:
        shake(attached, 0.2)
        peft = attached.to_peft()
        ours = our_logprobs(lm).detach()
    assert peft is not None
    write(peft, tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    theirs = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        gate(DELTAS[name], "parity", close(ours, their_logprobs(theirs)), "PEFT, log p")


def configured(family: str, name: str) -> Any:
    """Return PEFT's configuration with its own targets."""
    if name == "layer_norm":
        return LNTuningConfig(task_type="CAUSAL_LM", target_modules=NORMS.get(family))
    return IA3Config(task_type="CAUSAL_LM", fan_in_fan_out=family == "gpt2")


@pytest.mark.parametrize("name", ["ia3", "layer_norm"])
@pytest.mark.parametrize("family", FAMILIES)
def test_peft_files_load_here_with_equal_numbers_and_gradients(
    family: str, name: str, tmp_path: Path, gate: Gate
) -> None:
    theirs = get_peft_model(tiny.model(family), configured(family, name)).eval()
    rng = torch.Generator().manual_seed(0)
    trained = {n: p for n, p in theirs.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for parameter in trained.values():
            parameter.add_(torch.randn(parameter.shape, generator=rng) * 0.2)
    theirs.save_pretrained(str(tmp_path))
    found = type(DELTAS[name]).from_peft(read(tmp_path))
    assert found is not None
    own, state = found
    lm = tiny.lm(family)
    with own.attach(lm, 5) as attached:
        attached.load(state)
        logprobs = our_logprobs(lm)
        wanted = their_logprobs(theirs)
        gate(name, "parity", close(logprobs.detach(), wanted.detach()), "PEFT, log p")
        ours = gradients(-logprobs.mean(), attached.parameters())
    others = gradients(-wanted.mean(), dict(trained))
    named = {_own_name(name): gradient for name, gradient in others.items()}
    gate(name, "parity", relative(ours, named), "PEFT, gradient")


def _own_name(name: str) -> str:
    plain = name.removeprefix("base_model.model.").replace(".ln_tuning_layers.default.", ".")
    return plain.removesuffix(".default")


@pytest.mark.parametrize("name", DELTAS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_files_survive_a_round_trip(family: str, name: str) -> None:
    lm = tiny.lm(family)
    with DELTAS[name].attach(lm, 0) as attached:
        shake(attached)
        peft, state = attached.to_peft(), attached.state()
        wanted = our_logprobs(lm).detach()
    assert peft is not None
    found = type(DELTAS[name]).from_peft(copy.deepcopy(peft))
    assert found is not None
    own, loaded = found
    assert loaded.keys() == state.keys()
    with own.attach(lm, 1) as attached:
        attached.load(loaded)
        assert torch.equal(our_logprobs(lm).detach(), wanted)


@pytest.mark.parametrize("name", DELTAS)
@pytest.mark.parametrize(
    "changed",
    [
        {"peft_type": "LORA"},
        {"target_modules": "all-linear"},
        {"target_modules": None},
        {"modules_to_save": ["lm_head"]},
    ],
)
def test_what_we_cannot_represent_is_not_read(name: str, changed: dict[str, object]) -> None:
    with DELTAS[name].attach(tiny.lm("llama"), 0) as attached:
        peft = attached.to_peft()
    assert peft is not None
    assert type(DELTAS[name]).from_peft(peft) is not None
    assert type(DELTAS[name]).from_peft(Peft({**peft.config, **changed}, peft.tensors)) is None
