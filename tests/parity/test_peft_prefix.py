"""Prefix tuning equals PEFT: numbers, gradients, answers, and files in both directions."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel, PrefixTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM

from savile.deltas.prefix_tuning import PrefixTuning
from savile.lm.generate import end_tokens, greedy
from tests import tiny
from tests.contracts.tree_gate import gradients, shake
from tests.gates import Gate
from tests.parity.peft_files import close, our_logprobs, read, relative, their_logprobs, write

TOKENS, LENGTH = 5, 12
DELTAS = {
    "direct": PrefixTuning(num_virtual_tokens=TOKENS),
    "projection": PrefixTuning(
        num_virtual_tokens=TOKENS, prefix_projection=True, encoder_hidden_size=24
    ),
}
pytestmark = [
    # PEFT 0.21 reads a name that transformers 5 renamed.
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
]


@pytest.fixture(params=["llama", "qwen3", "mistral", "gemma2", "gpt2", "gpt_neox"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=sorted(DELTAS))
def delta(request: pytest.FixtureRequest) -> PrefixTuning:
    return DELTAS[request.param]


def their_model(family: str, delta: PrefixTuning) -> PeftModel:
    config = PrefixTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=delta.num_virtual_tokens,
        prefix_projection=delta.prefix_projection,
        encoder_hidden_size=delta.encoder_hidden_size,  # type: ignore[arg-type]
    )
    torch.manual_seed(0)
    made = get_peft_model(tiny.model(family), config).eval()
    assert isinstance(made, PeftModel)
    return made


def test_the_same_parameters_give_the_same_numbers_and_gradients(
    family: str, delta: PrefixTuning, gate: Gate
) -> None:
    theirs = their_model(family, delta)
    found = {
        name if delta.prefix_projection else "prompt_embeddings": parameter
        for name, parameter in theirs.prompt_encoder["default"].named_parameters()
    }
    lm = tiny.lm(family)
    with delta.attach(lm, 5) as attached:
        attached.load(found)
        logprobs, wanted = our_logprobs(lm), their_logprobs(theirs)
        gate(delta, "parity", close(logprobs.detach(), wanted.detach()), "PEFT, log p")
        ours = gradients(-logprobs.mean(), attached.parameters())
        (-wanted.mean()).backward()  # type: ignore[no-untyped-call]
    theirs_too = {name: parameter.grad for name, parameter in found.items()}
    gate(delta, "parity", relative(ours, theirs_too), "PEFT, gradient")


def test_our_files_load_in_peft_without_the_projection(
    family: str, delta: PrefixTuning, tmp_path: Path
) -> None:
    lm = tiny.lm(family)
    lm.model.save_pretrained(tmp_path / "base")
    with delta.attach(lm, 0) as attached:
        shake(attached, 0.2)
        peft, ours = attached.to_peft(), our_logprobs(lm).detach()
        prompt = tiny.groups()[0].prompt
        answer = greedy(lm, [prompt], LENGTH)[0]
    assert peft is not None
    assert list(peft.tensors) == ["prompt_embeddings"]
    write(peft, tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    theirs = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    ids = torch.tensor([prompt])
    with torch.no_grad():
        close(ours, their_logprobs(theirs))
        out = theirs.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=LENGTH,
            eos_token_id=sorted(end_tokens(lm)),
            pad_token_id=0,
        )[0, len(prompt) :].tolist()
    assert out[: len(answer)] == answer
    assert len(answer) == LENGTH or out[len(answer)] in end_tokens(lm)


def test_peft_files_load_here(family: str, delta: PrefixTuning, tmp_path: Path) -> None:
    theirs = their_model(family, delta)
    theirs.save_pretrained(str(tmp_path))
    found = PrefixTuning.from_peft(read(tmp_path))
    assert found is not None
    own, state = found
    assert own == PrefixTuning(num_virtual_tokens=TOKENS)
    lm = tiny.lm(family)
    with own.attach(lm, 0) as attached, torch.no_grad():
        attached.load(state)
        close(our_logprobs(lm), their_logprobs(theirs))
