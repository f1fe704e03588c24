"""P-tuning equals PEFT: numbers and gradients with the encoder, and files without it."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel, PromptEncoderConfig, get_peft_model
from transformers import AutoModelForCausalLM

from savile.deltas.p_tuning import PTuning
from savile.deltas.prompt_tuning import PromptTuning
from tests import tiny
from tests.contracts.tree_gate import gradients, shake
from tests.gates import Gate
from tests.parity.peft_files import close, our_logprobs, read, relative, their_logprobs, write

HIDDEN = 24
ENCODERS = {
    "lstm": PTuning(num_virtual_tokens=5, encoder_hidden_size=HIDDEN),
    "deep_lstm": PTuning(num_virtual_tokens=5, encoder_num_layers=3),
    "mlp": PTuning(num_virtual_tokens=5, encoder_reparameterization_type="MLP"),
}
pytestmark = [
    # PEFT 0.21 reads a name that transformers 5 renamed.
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
]


@pytest.fixture(params=["llama", "gpt2", "gpt_neox"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=sorted(ENCODERS))
def delta(request: pytest.FixtureRequest) -> PTuning:
    return ENCODERS[request.param]


def their_model(family: str, delta: PTuning) -> PeftModel:
    config = PromptEncoderConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=delta.num_virtual_tokens,
        encoder_reparameterization_type=delta.encoder_reparameterization_type,
        encoder_hidden_size=delta.encoder_hidden_size,  # type: ignore[arg-type]
        encoder_num_layers=delta.encoder_num_layers,
    )
    torch.manual_seed(0)
    made = get_peft_model(tiny.model(family), config).eval()
    assert isinstance(made, PeftModel)
    return made


def test_the_same_encoder_gives_the_same_numbers_and_gradients(
    family: str, delta: PTuning, gate: Gate
) -> None:
    theirs = their_model(family, delta)
    encoder = theirs.prompt_encoder["default"]
    lm = tiny.lm(family)
    with delta.attach(lm, 5) as attached:
        attached.load(encoder.state_dict())
        logprobs, wanted = our_logprobs(lm), their_logprobs(theirs)
        gate(delta, "parity", close(logprobs.detach(), wanted.detach()), "PEFT, log p")
        ours = gradients(-logprobs.mean(), attached.parameters())
        (-wanted.mean()).backward()  # type: ignore[no-untyped-call]
    found = {name: parameter.grad for name, parameter in encoder.named_parameters()}
    gate(delta, "parity", relative(ours, found), "PEFT, gradient")


def test_our_files_load_in_peft_without_the_encoder(
    family: str, delta: PTuning, tmp_path: Path, gate: Gate
) -> None:
    lm = tiny.lm(family)
    lm.model.save_pretrained(tmp_path / "base")
    with delta.attach(lm, 0) as attached:
        shake(attached)
        peft, ours = attached.to_peft(), our_logprobs(lm).detach()
    assert peft is not None
    assert list(peft.tensors) == ["prompt_embeddings"]
    write(peft, tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    theirs = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        gate(delta, "parity", close(ours, their_logprobs(theirs)), "PEFT, log p")


def test_peft_files_are_the_soft_prompt_that_they_hold(
    family: str, delta: PTuning, tmp_path: Path
) -> None:
    theirs = their_model(family, delta)
    theirs.save_pretrained(str(tmp_path))
    files = read(tmp_path)
    assert files.config["peft_type"] == "P_TUNING"
    assert PTuning.from_peft(files) is None  # the encoder is not in them
    found = PromptTuning.from_peft(files)
    assert found is not None
    own, state = found
    lm = tiny.lm(family)
    with own.attach(lm, 0) as attached, torch.no_grad():
        attached.load(state)
        close(our_logprobs(lm), their_logprobs(theirs))
