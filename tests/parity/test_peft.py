"""LoRA and prompt tuning equal PEFT: numbers, gradients, and files in both directions."""

import copy
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from savile.deltas.base import Delta, Peft
from savile.deltas.lora import LoRA
from savile.deltas.prompt_tuning import PromptTuning
from savile.lm.model import LM
from savile.lm.tree import build
from tests import tiny
from tests.contracts.tree_gate import gradients, shake

FAMILIES = ("llama", "gpt2", "gpt_neox")
DELTAS: dict[str, Delta] = {
    "lora": LoRA(r=4),
    "rslora": LoRA(r=4, lora_alpha=6.0, use_rslora=True),
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


def write(peft: Peft, folder: Path) -> None:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(peft.config))
    blob = safetensors.torch.save({k: v.contiguous() for k, v in peft.tensors.items()})
    (folder / "adapter_model.safetensors").write_bytes(blob)


def read(folder: Path) -> Peft:
    return Peft(
        json.loads((folder / "adapter_config.json").read_text()),
        safetensors.torch.load((folder / "adapter_model.safetensors").read_bytes()),
    )


def their_logprobs(model: torch.nn.Module) -> Tensor:
    """Return log-probabilities of every completion token, sequence by sequence."""
    found = []
    for prompt, completion in tiny.paths(tiny.groups()):
        ids = torch.tensor([[*prompt, *completion]])
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        rows = logits[-len(completion) - 1 : -1].log_softmax(-1)
        found.append(rows[range(len(completion)), completion])
    return torch.cat(found)


def our_logprobs(lm: LM) -> Tensor:
    return lm.logprobs(build(tiny.groups()))


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_our_files_load_in_peft(family: str, delta: Delta, tmp_path: Path) -> None:
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
        close(ours, their_logprobs(theirs))


def their_model(family: str, delta: Delta) -> PeftModel:
    """Return PEFT's own adapter of the same settings, away from its start."""
    model = tiny.model(family)
    config: LoraConfig | PromptTuningConfig
    if isinstance(delta, LoRA):
        names = {s.name.rsplit(".", 1)[-1] for s in tiny.lm(family).sites.linear_maps()}
        config = LoraConfig(
            r=delta.r,
            lora_alpha=delta.lora_alpha or 2 * delta.r,  # type: ignore[arg-type]
            use_rslora=delta.use_rslora,
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
    family: str, delta: Delta, tmp_path: Path
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
        close(logprobs.detach(), wanted.detach())
        ours = gradients(-logprobs.mean(), attached.parameters())
        (-wanted.mean()).backward()  # type: ignore[no-untyped-call]
        named = {
            _own_name(name): parameter.grad
            for name, parameter in theirs.named_parameters()
            if parameter.requires_grad
        }
        assert named.keys() == ours.keys()
        for name, gradient in ours.items():
            other = named[name]
            assert other is not None
            assert float((gradient - other).norm() / other.norm()) <= 1e-5, name


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
    if isinstance(own, LoRA) and isinstance(delta, LoRA):
        assert own.scale == pytest.approx(delta.scale)


@pytest.mark.parametrize(
    "changed",
    [
        {"peft_type": "IA3"},
        {"use_dora": True},
        {"bias": "all"},
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
    assert LoRA.from_peft(Peft({**peft.config, **changed}, peft.tensors)) is None
    assert PromptTuning.from_peft(peft) is None
