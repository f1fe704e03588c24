"""LoRA's starts, PiSSA and LoRA+ equal PEFT's."""

import math
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from torch import Tensor
from transformers import AutoModelForCausalLM

from savile.deltas.base import Delta, generator
from savile.deltas.dora import DoRA
from savile.deltas.lora import LoRA
from savile.deltas.pissa import PiSSA
from savile.lm import lowrank
from tests import tiny
from tests.contracts.tree_gate import gradients, shake
from tests.gates import Gate
from tests.parity.peft_files import close, our_logprobs, relative, their_logprobs, write

pytestmark = [
    # PEFT 0.21 reads a name that transformers 5 renamed.
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
]


def their_model(family: str, **settings: object) -> PeftModel:
    names = {s.name.rsplit(".", 1)[-1] for s in tiny.lm(family).sites.linear_maps()}
    config = LoraConfig(
        target_modules=sorted(names),
        fan_in_fan_out=family == "gpt2",
        task_type="CAUSAL_LM",
        **settings,  # type: ignore[arg-type]
    )
    made = get_peft_model(tiny.model(family), config).eval()
    assert isinstance(made, PeftModel)
    return made


def their_factors(model: PeftModel) -> dict[str, torch.nn.Parameter]:
    """Return PEFT's trained parameters under our names."""
    return {
        name.removeprefix("base_model.model.").replace(".default.weight", ""): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


@pytest.mark.parametrize("start", sorted(lowrank.STARTS, key=str))
def test_a_start_equals_pefts_at_the_same_seed(start: bool | str) -> None:
    theirs = their_model("llama", r=4)
    for site in tiny.lm("llama").sites.linear_maps()[:3]:
        layer = theirs.get_submodule(f"base_model.model.{site.name}")
        torch.manual_seed(3)
        if start == "orthogonal":
            layer.orthogonal_init("default")  # type: ignore[operator]
        else:
            layer.reset_lora_parameters("default", start)  # type: ignore[operator]
        own = lowrank.STARTS[start](site, 4, generator(3))
        torch.testing.assert_close(own.a, layer.lora_A["default"].weight)  # type: ignore[index]
        torch.testing.assert_close(own.b, layer.lora_B["default"].weight)  # type: ignore[index]


def moved(factors: dict[str, torch.nn.Parameter], by: float = 0.02) -> dict[str, Tensor]:
    """Move PEFT's parameters off their start; return where they were."""
    before = {name: p.detach().clone() for name, p in factors.items()}
    rng = generator(1)
    with torch.no_grad():
        for parameter in factors.values():
            parameter.add_(torch.randn(parameter.shape, generator=rng) * by)
    return before


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("alpha", [4.0, 10.0])
def test_pissa_equals_pefts_in_numbers_and_gradients(family: str, alpha: float, gate: Gate) -> None:
    theirs = their_model(family, r=4, lora_alpha=alpha, init_lora_weights="pissa")
    factors = their_factors(theirs)
    start = moved(factors)
    lm = tiny.lm(family)
    with PiSSA(r=4, lora_alpha=alpha).attach(lm, 0) as attached:
        for site in lm.sites.linear_maps():  # the decomposition itself, whatever its signs
            own = attached.parameters()
            a, b = own[f"{site.name}.lora_A"], own[f"{site.name}.lora_B"]
            wanted = start[f"{site.name}.lora_B"] @ start[f"{site.name}.lora_A"]
            torch.testing.assert_close(b @ a, wanted, rtol=1e-4, atol=1e-5)
        state = {name: p.detach() for name, p in factors.items()}
        for name, tensor in start.items():
            state[name.replace(".lora_", ".start_")] = tensor
        attached.load(state)
        ours, wanted = our_logprobs(lm), their_logprobs(theirs)
        gate("pissa", "parity", close(ours.detach(), wanted.detach()), "PEFT, log p")
        got = gradients(-ours.mean(), attached.parameters())
        (-wanted.mean()).backward()  # type: ignore[no-untyped-call]
        theirs_too = {name: factor.grad for name, factor in factors.items()}
        gate("pissa", "parity", relative(got, theirs_too), "PEFT, gradient")


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_pissa_exports_as_one_plain_update_on_the_unchanged_base(
    family: str, tmp_path: Path
) -> None:
    lm = tiny.lm(family)
    lm.model.save_pretrained(tmp_path / "base")
    with PiSSA(r=4, lora_alpha=6.0).attach(lm, 0) as attached:
        shake(attached)
        peft, ours = attached.to_peft(), our_logprobs(lm).detach()
    assert peft is not None
    write(peft, tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    theirs = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        close(ours, their_logprobs(theirs))
    found = LoRA.from_peft(peft)
    assert found is not None
    again, state = found
    with again.attach(lm, 1) as attached, torch.no_grad():
        attached.load(state)
        close(our_logprobs(lm), ours)


@pytest.mark.parametrize(
    "delta", [LoRA(r=4, loraplus_lr_ratio=16.0), DoRA(r=4, loraplus_lr_ratio=8.0)]
)
def test_the_rates_of_lora_plus_are_those_of_pefts_optimizer(delta: LoRA | DoRA) -> None:
    theirs = their_model("llama", r=4, use_dora=isinstance(delta, DoRA))
    optimizer = create_loraplus_optimizer(
        theirs, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=delta.loraplus_lr_ratio
    )
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    with delta.attach(tiny.lm("llama"), 0) as attached:
        ours = {name: 1e-3 * attached.rate_factor(name) for name in attached.parameters()}
    wanted = {name: rates[id(p)] for name, p in their_factors(theirs).items()}
    assert ours == pytest.approx(wanted)
    assert len({*ours.values()}) == 2


@pytest.mark.parametrize("delta", [DoRA(r=4), DoRA(r=4, lora_alpha=32.0)])
def test_the_norm_of_dora_is_that_of_the_written_out_matrix(delta: Delta) -> None:
    lm = tiny.lm("gpt2")
    assert isinstance(delta, DoRA)
    with delta.attach(lm, 0) as attached, torch.no_grad():
        x = torch.randn(5, 32, generator=generator(0))
        site = next(s for s in lm.sites.linear_maps() if s.name.endswith("c_attn"))
        for size in (0.1, 0.3):  # the second time the norms have to follow
            shake(attached, size)
            own = attached.parameters()
            a, b = own[f"{site.name}.lora_A"], own[f"{site.name}.lora_B"]
            weight = site.weight.T + delta.scale * b @ a
            ratio = own[f"{site.name}.lora_magnitude_vector"] / weight.norm(dim=1)
            assert site.bias is not None
            wanted = x @ (ratio[:, None] * weight).T + site.bias
            torch.testing.assert_close(site.module(x), wanted, rtol=1e-5, atol=1e-5)
    assert math.isfinite(float(wanted.sum()))
