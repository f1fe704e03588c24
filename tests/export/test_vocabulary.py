"""A soft prompt written as a plain model: same logits, same ids, new tokens never written."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from savile.deltas.base import Delta
from savile.deltas.bottleneck import Bottleneck
from savile.deltas.lora import LoRA
from savile.deltas.p_tuning import PTuning
from savile.deltas.prompt_tuning import PromptTuning
from savile.errors import EnvironmentProblem
from savile.export.base import Customization
from savile.export.vocabulary import Vocabulary, Written
from savile.export.vocabulary import write as write_into
from savile.joined import Joined
from savile.lm.generate import greedy
from savile.lm.load import load
from savile.lm.model import LM
from savile.lm.tree import Paths, build
from savile.prompts.base import Frame
from savile.spec import Candidate
from savile.types import Example, Message
from tests import tiny
from tests.contracts.tree_gate import shake

N = 6
OLD = tiny.tokenizer().backend_tokenizer.get_vocab_size()
DELTAS: dict[str, Delta] = {
    "prompt_tuning": PromptTuning(num_virtual_tokens=N),
    "p_tuning": PTuning(num_virtual_tokens=N, encoder_reparameterization_type="MLP"),
}
CHATS = [
    [Message(role="user", content="where is my parcel?")],
    [
        Message(role="system", content="Be <|im_end|> brief."),
        Message(role="user", content="one <|soft_0|>"),
        Message(role="assistant", content="two"),
        Message(role="user", content="three"),
    ],
]


@pytest.fixture(params=[*tiny.FAMILIES, "bloom"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def export(lm: LM, folder: Path) -> Written:
    folder.mkdir()
    return write_into(lm, folder)


@torch.no_grad()
def logits(lm: LM, prompts: list[list[int]]) -> Tensor:
    tree = build([Paths(ids, []) for ids in prompts])
    return lm.logits(tree, tree.ends)[:, :OLD]


def written(family: str, folder: Path, *, tied: bool = False, size: float = 0.3) -> Tensor:
    """Export a shaken soft prompt and return the logits it gave while it was attached."""
    lm = base(family, tied=tied)
    with DELTAS["prompt_tuning"].attach(lm, 0) as attached:
        shake(attached, size)
        export(lm, folder)
        return logits(lm, [lm.encode_prompt(chat) for chat in CHATS])


def base(family: str, *, tied: bool = False) -> LM:
    model: PreTrainedModel = tiny.model(family)
    if tied:
        model.config.tie_word_embeddings = True
        model.tie_weights()
    return LM(model, tiny.tokenizer(), name=family)


@pytest.mark.parametrize("tied", [True, False])
def test_our_loader_gives_the_attached_logits(family: str, tied: bool, tmp_path: Path) -> None:
    if family == "qwen2":
        pytest.skip("transformers' tokenizer class of this family adds a token of its own")
    wanted = written(family, tmp_path / "model", tied=tied)
    lm = load(str(tmp_path / "model"), folder=tmp_path, device="cpu")
    torch.testing.assert_close(
        logits(lm, [lm.encode_prompt(chat) for chat in CHATS]), wanted, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("tied", [True, False])
def test_plain_transformers_gives_the_attached_logits(
    family: str, tied: bool, tmp_path: Path
) -> None:
    wanted = written(family, tmp_path / "model", tied=tied)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    assert model.config.tie_word_embeddings is False
    chat = [{"role": m.role, "content": m.content} for m in CHATS[0]]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    with torch.no_grad():
        found = model(input_ids=torch.tensor([ids])).logits[0, -1, :OLD]
    torch.testing.assert_close(found, wanted[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(DELTAS))
def test_every_chat_is_the_old_one_behind_the_new_tokens(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lm = tiny.lm("llama")
    with DELTAS[name].attach(lm, 0):
        made = export(lm, tmp_path / "model")
    assert capfd.readouterr().err == ""  # no progress bar but our own
    assert made.tokens == tuple(f"<|soft_{i}|>" for i in range(N))
    own = load(str(tmp_path / "model"), folder=tmp_path, device="cpu")
    for chat in CHATS:
        assert own.encode_prompt(chat) == [*made.ids, *lm.encode_prompt(chat)]
    assert own.encode_completion("<|soft_0|>") == lm.encode_completion("<|soft_0|>")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_new_tokens_are_never_written(family: str, tied: bool, tmp_path: Path) -> None:
    """Also when the vectors are so large that, tied, they would win every comparison."""
    lm = base(family, tied=tied)
    with DELTAS["prompt_tuning"].attach(lm, 0) as attached:
        shake(attached, 30.0)
        ids = set(export(lm, tmp_path / "model").ids)
    own = load(str(tmp_path / "model"), folder=tmp_path, device="cpu")
    rng = torch.Generator().manual_seed(0)
    prompts = torch.randint(5, OLD, (60, 7), generator=rng).tolist()
    tree = build([Paths([*sorted(ids), *p], []) for p in prompts])
    with torch.no_grad():
        whole = own.logits(tree, tree.ends)
    new = whole[:, sorted(ids)]
    assert bool((new < whole[:, :OLD].amax(-1, keepdim=True)).all())
    assert bool((whole.softmax(-1)[:, sorted(ids)] <= 1 / OLD).all())
    assert not ids & {token for answer in greedy(own, prompts, 12) for token in answer}
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    torch.manual_seed(0)
    sampled = model.generate(
        torch.tensor(prompts), do_sample=True, temperature=5.0, max_new_tokens=20, pad_token_id=0
    )
    assert not ids & set(sampled[:, 7:].flatten().tolist())


def test_an_exported_model_is_a_base_for_another_soft_prompt(tmp_path: Path) -> None:
    written("llama", tmp_path / "first")
    lm = load(str(tmp_path / "first"), folder=tmp_path, device="cpu")
    with PromptTuning(num_virtual_tokens=2).attach(lm, 0):
        made = export(lm, tmp_path / "second")
        wanted = logits(lm, [lm.encode_prompt(chat) for chat in CHATS])
    assert made.tokens == ("<|soft_6|>", "<|soft_7|>")
    assert not made.untied
    own = load(str(tmp_path / "second"), folder=tmp_path, device="cpu")
    found = logits(own, [own.encode_prompt(chat) for chat in CHATS])
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_the_base_stays_as_it_is(tmp_path: Path) -> None:
    lm = base("llama", tied=True)
    held = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    template, size = lm.tokenizer.chat_template, len(lm.tokenizer)
    with DELTAS["prompt_tuning"].attach(lm, 0):
        assert export(lm, tmp_path / "model").untied
    assert all(torch.equal(held[name], t) for name, t in lm.model.state_dict().items())
    assert lm.model.config.tie_word_embeddings
    assert lm.model.generation_config.suppress_tokens is None
    assert (lm.tokenizer.chat_template, len(lm.tokenizer)) == (template, size)


def test_what_cannot_be_exported_is_said() -> None:
    lm, form = tiny.lm("llama"), Vocabulary()
    example = Example(id="1", input="a", output="b")

    def refusal(delta: Delta) -> str | None:
        with delta.attach(lm, 0) as attached:
            made = Customization(
                candidate=Candidate(name="x"),
                frame=Frame(),
                max_new_tokens=4,
                example=example,
                lm=lm,
                attached=attached,
            )
            return form.refusal(made)

    beside = Joined(members=(DELTAS["prompt_tuning"], LoRA(r=2)))
    assert refusal(DELTAS["p_tuning"]) is None
    assert refusal(beside) is None
    assert "no soft prompt" in str(refusal(LoRA(r=2)))
    more = Joined(members=(DELTAS["prompt_tuning"], Bottleneck()))
    assert "more than a change" in str(refusal(more))
    lm.quantization = "int8"
    assert "quantized to int8" in str(refusal(DELTAS["p_tuning"]))


def test_a_tokenizer_that_reads_a_chat_differently_is_refused(tmp_path: Path) -> None:
    """As older Llama tokenizers do, which mark the first word of a text, and that only."""
    known = ["<s>", "</s>", "\u2581", *map(chr, range(33, 127))]
    raw = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(known)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="</s>",
        chat_template="{% for m in messages %}{{ m.content }}{% endfor %}",
    )
    lm = LM(tiny.model("llama"), tokenizer, name="llama")
    with (
        DELTAS["prompt_tuning"].attach(lm, 0),
        pytest.raises(EnvironmentProblem, match="differently"),
    ):
        export(lm, tmp_path / "model")
    assert list((tmp_path / "model").iterdir()) == []
