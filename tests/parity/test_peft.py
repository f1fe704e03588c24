"""LoRA, DoRA and prompt tuning equal PEFT: numbers, gradients, and files in both directions."""

import copy
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM

from savile.deltas.base import Delta, Peft
from savile.deltas.dora import DoRA
from savile.deltas.lora import LoRA
from savile.deltas.prompt_tuning import PromptTuning
from tests import tiny
from tests.contracts.tree_gate import gradients, shake
from tests.gates import Gate
from tests.parity.peft_files import close, our_logprobs, read, relative, their_logprobs, write

FAMILIES = ("llama", "gpt2", "gpt_neox")
DELTAS: dict[str, Delta] = {
    "lora": LoRA(r=4),
    "rslora": LoRA(r=4, lora_alpha=6.0, use_rslora=True),
    "dora": DoRA(r=4),
    "rsdora": DoRA(r=4, lora_alpha=6.0, use_rslora=True),
    "prompt_tuning": PromptTuning(num_virtual_tokens=5),
}
pytestmark = [
    # PEFT 0.21 reads a name that transformers 5 renamed.
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=sorted(DELTAS))
def delta(request: pytest.FixtureRequest) -> Delta:
    return DELTAS[request.param]


def test_our_files_load_in_peft(family: str, delta: Delta, tmp_path: Path, gate: Gate) -> None:
    lm = tiny.lm(family)
    lm.model.save_pretrained(tmp_path / "base")
    with delta.attach(lm, 0) as attached:
        shake(attached)
        peft = attached.to_peft()
        ours = our_logprobs(lm).detach()
    assert peft is not None
    write(peft, tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    theirs = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        gate(delta, "parity", close(ours, their_logprobs(theirs)), "PEFT, log p")


def their_model(family: str, delta: Delta) -> PeftModel:
    """Return PEFT's own adapter of the same settings, away from its start."""
    model = tiny.model(family)
    config: LoraConfig | PromptTuningConfig
    if isinstance(delta, LoRA | DoRA):
        names = {s.name.rsplit(".", 1)[-1] for s in tiny.lm(family).sites.linear_maps()}
        config = LoraConfig(
            r=delta.r,
            lora_alpha=delta.lora_alpha or 2 * delta.r,  # type: ignore[arg-type]
            use_rslora=delta.use_rslora,
            use_dora=isinstance(delta, DoRA),
            target_modules=sorted(names),
            fan_in_fan_out=family == "gpt2",
            task_type="CAUSAL_LM",
        )
    else:
        assert isinstance(delta, PromptTuning)
        config = PromptTuningConfig(
            num_virtual_tokens=delta.num_virtual_tokens, task_type="CAUSAL_LM"
        )
    torch.manual_seed(0)
    made = get_peft_model(model, config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.02)
    assert isinstance(made, PeftModel)
    return made


def test_peft_files_load_here_with_equal_numbers_and_gradients(
    family: str, delta: Delta, tmp_path: Path, gate: Gate
) -> None:
    theirs = their_model(family, delta)
    theirs.save_pretrained(str(tmp_path))
    found = type(delta).from_peft(read(tmp_path))
    assert found is not None
    own, state = found
    lm = tiny.lm(family)
    with own.attach(lm, 5) as attached:
        attached.load(state)
        logprobs = our_logprobs(lm)
        wanted = their_logprobs(theirs)
        gate(delta, "parity", close(logprobs.detach(), wanted.detach()), "PEFT, log p")
        ours = gradients(-logprobs.mean(), attached.parameters())
        (-wanted.mean()).backward()  # type: ignore[no-untyped-call]
        named = {
            _own_name(name): parameter.grad
            for name, parameter in theirs.named_parameters()
            if parameter.requires_grad
        }
        gate(delta, "parity", relative(ours, named), "PEFT, gradient")


def _own_name(name: str) -> str:
    if "prompt_encoder" in name:
        return "prompt_embeddings"
    return name.removeprefix("base_model.model.").replace(".default.weight", "")


def test_the_files_survive_a_round_trip(family: str, delta: Delta) -> None:
    lm = tiny.lm(family)
    with delta.attach(lm, 0) as attached:
        shake(attached)
        peft, state = attached.to_peft(), attached.state()
    assert peft is not None
    found = type(delta).from_peft(copy.deepcopy(peft))
    assert found is not None
    own, loaded = found
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    if isinstance(own, LoRA | DoRA) and isinstance(delta, LoRA | DoRA):
        assert own.scale == pytest.approx(delta.scale)
        assert own.use_rslora == delta.use_rslora


@pytest.mark.parametrize(
    "changed",
    [
        {"peft_type": "IA3"},
        {"bias": "all"},
        {"lora_bias": True},
        {"use_qalora": True},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "olora"},
        {"rank_pattern": {"q_proj": 2}},
        {"alpha_pattern": {"q_proj": 2}},
        {"modules_to_save": ["lm_head"]},
    ],
)
def test_what_we_cannot_represent_is_not_read(changed: dict[str, object]) -> None:
    lm = tiny.lm("llama")
    with LoRA().attach(lm, 0) as attached:
        peft = attached.to_peft()
    assert peft is not None
    for dora in (False, True):
        other = Peft({**peft.config, **changed, "use_dora": dora}, peft.tensors)
        assert [kind.from_peft(other) for kind in (LoRA, DoRA, PromptTuning)] == [None] * 3


def test_lora_and_dora_files_are_told_apart() -> None:
    lm = tiny.lm("llama")
    for delta, other in ((LoRA(), DoRA), (DoRA(), LoRA)):
        with delta.attach(lm, 0) as attached:
            peft = attached.to_peft()
        assert peft is not None
        assert type(delta).from_peft(peft) is not None
        assert other.from_peft(peft) is None


@pytest.mark.parametrize("targets", ["all-linear", r".*\.c_attn"])
def test_a_pattern_of_peft_means_the_maps_in_its_file(targets: str, tmp_path: Path) -> None:
    config = LoraConfig(
        r=4, target_modules=targets, task_type="CAUSAL_LM", init_lora_weights=False,
        fan_in_fan_out=True,
    )  # fmt: skip
    theirs = get_peft_model(tiny.model("gpt2"), config).eval()
    theirs.save_pretrained(str(tmp_path))
    found = LoRA.from_peft(read(tmp_path))
    assert found is not None
    own, state = found
    lm = tiny.lm("gpt2")
    with own.attach(lm, 0) as attached, torch.no_grad():
        attached.load(state)
        close(our_logprobs(lm), their_logprobs(theirs))
