"""A quantized base: close to the plain one, exact for what is tuned beside it."""

import copy
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from savile import registry
from savile.deltas.base import Delta
from savile.deltas.dora import DoRA
from savile.deltas.lora import LoRA
from savile.errors import EnvironmentProblem
from savile.job import Job, Plan, encode
from savile.lm import lowrank
from savile.lm.load import load
from savile.lm.model import LM
from savile.lm.quantization import KINDS, Quantization, quantize
from savile.lm.tree import Paths, build
from savile.metrics.exact_match import ExactMatch
from savile.objectives.sft import SFT
from savile.prompts.base import Frame
from savile.spec.model import ComputeSection, Spec
from savile.train import train
from savile.types import Example, Message
from tests import tiny
from tests.contracts.tree_gate import gradients, shake
from tests.losses import mean_loss

CPU = torch.device("cpu")
TEXTS = (
    "hi , how does the webcam work , many thanks",
    "the router i ordered last week never arrived",
    "please cancel my order and send the money back",
    "my invoice shows the wrong amount for march",
)


@pytest.fixture(params=["int8", "nf4"])
def kind(request: pytest.FixtureRequest) -> Quantization:
    pytest.importorskip("torchao", reason="the extra `quantized` is not installed")
    found: Quantization = request.param
    return found


def quantized(family: str, kind: Quantization) -> LM:
    model = tiny.model(family)
    quantize(model, kind, CPU)
    lm = LM(model, tiny.tokenizer(), name=family)
    lm.quantization = kind
    return lm


def written_out(lm: LM) -> LM:
    """Return the same base with plain weights of the values that the quantized ones stand for."""
    family = lm.name
    plain = tiny.lm(family)
    with torch.no_grad():
        for site, other in zip(plain.sites.linear_maps(), lm.sites.linear_maps(), strict=True):
            site.weight.copy_(lowrank.dense(lm, other))
    return plain


def loss(lm: LM) -> Tensor:
    return -lm.logprobs(build(tiny.groups())).mean()


@pytest.mark.parametrize("base", ["embedded", "embedded-large"])
def test_the_loss_of_an_embedded_base_stays_within_two_percent(
    base: str, kind: Quantization
) -> None:
    losses = {}
    for how in (None, kind):
        lm = load(base, folder=Path(), dtype="float32", quantization=how)
        assert lm.uses_tree
        assert lm.quantization == how
        paths = [
            Paths(ids[:1], [ids[1:]])
            for ids in (lm.encode_prompt([Message(role="user", content=t)]) for t in TEXTS)
        ]
        with torch.no_grad():
            losses[how] = float(-lm.logprobs(build(paths)).mean())
    assert losses[kind] != losses[None]
    assert losses[kind] == pytest.approx(losses[None], rel=0.02)


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_the_weights_are_small_and_the_rest_is_as_it_was(family: str, kind: Quantization) -> None:
    lm, plain = quantized(family, kind), tiny.lm(family)
    assert lm.n_parameters == plain.n_parameters
    maps = {f"{site.name}.weight" for site in lm.sites.linear_maps()}
    assert len(maps) >= 8
    before = dict(plain.model.named_parameters())
    for name, parameter in lm.model.named_parameters():
        if name in maps:
            assert type(parameter).__name__ == {"int8": "Int8Tensor", "nf4": "NF4Tensor"}[kind]
        else:
            assert torch.equal(parameter, before[name])


@pytest.mark.parametrize("delta", [LoRA(r=4), DoRA(r=4)], ids=["lora", "dora"])
@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_numbers_and_gradients_are_those_of_the_weights_written_out(
    family: str, kind: Quantization, delta: Delta
) -> None:
    lm = quantized(family, kind)
    found = {}
    for base in (lm, written_out(lm)):
        with delta.attach(base, 0) as attached:
            shake(attached)
            value = loss(base)
            found[base] = value.detach(), gradients(value, attached.parameters())
    (ours, got), (plain, wanted) = found.values()
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)
    for name, gradient in got.items():
        assert float((gradient - wanted[name]).norm() / wanted[name].norm()) <= 1e-5, name


def test_gradients_survive_mixed_precision(kind: Quantization) -> None:
    lm = quantized("llama", kind)
    with LoRA(r=4).attach(lm, 0) as attached:
        shake(attached)
        wanted = gradients(loss(lm), attached.parameters())
        lm.amp = torch.bfloat16
        with lm.mixed_precision():
            mixed = loss(lm)
        got = gradients(mixed, attached.parameters())
    near = [torch.cosine_similarity(got[n].flatten(), wanted[n].flatten(), 0) for n in wanted]
    assert min(map(float, near)) > 0.98


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, part in sorted(registry.parts("deltas").items())
        if "plain_weights" not in part.needs
    ],
)
def test_every_delta_that_runs_on_it_trains_and_leaves_it_alone(
    name: str, kind: Quantization
) -> None:
    lm = quantized("gpt_neox", kind)
    delta: Delta = registry.load("deltas", name)()
    with torch.no_grad():
        before = loss(lm)
    with delta.attach(lm, 0) as attached:
        shake(attached)
        found = gradients(loss(lm), attached.parameters())
        assert all(bool(g.isfinite().all()) for g in found.values())
        assert any(bool(g.any()) for g in found.values())
        own = loss(lm).detach()
        attached.merge()
        torch.testing.assert_close(loss(lm).detach(), own, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(loss(lm), before)


@pytest.mark.parametrize("delta", [LoRA(), DoRA()], ids=["lora", "dora"])
def test_what_is_tuned_beside_it_learns_eight_rows(
    delta: Delta, kind: Quantization, trained_lm: LM, eight: list[Example]
) -> None:
    quantize(trained_lm.model, kind, CPU)
    trained_lm.quantization = kind
    rows = encode(trained_lm, Frame(), eight)
    before = mean_loss(trained_lm, rows)
    plan = Plan(
        learning_rate=delta.start_rate(trained_lm), examples=8 * 80, batch_size=8, evaluations=1
    )
    job = Job(
        lm=trained_lm, objective=SFT(), frame=Frame(), train=eight, dev=eight,
        metric=ExactMatch(), plan=plan, seed=0, max_new_tokens=4,
    )  # fmt: skip
    with delta.attach(trained_lm, 0) as attached:
        trained = train(job, attached)
        assert mean_loss(trained_lm, rows) < 0.1 * before
    assert trained.status == "ok"
    assert trained.dev_score == 1.0


def test_lora_cannot_be_merged_into_it(kind: Quantization) -> None:
    with LoRA().attach(quantized("llama", kind), 0) as attached:
        assert attached.merge() is False


def test_a_base_without_linear_modules_is_refused(kind: Quantization) -> None:
    with pytest.raises(EnvironmentProblem, match=r"(?s)compute\.quantization.*GPT2LMHeadModel"):
        quantize(tiny.model("gpt2"), kind, CPU)


def test_maps_that_do_not_fill_blocks_are_refused_by_nf4(kind: Quantization) -> None:
    model = tiny.model("llama")
    odd = model.get_submodule("model.layers.0.mlp")
    odd.up_proj = nn.Linear(33, 31, bias=False)
    held = copy.deepcopy(model.state_dict())
    if kind == "nf4":
        with pytest.raises(EnvironmentProblem, match=r"multiple of 64.*layers\.0\.mlp\.up_proj"):
            quantize(model, kind, CPU)
        assert all(torch.equal(v, held[k]) for k, v in model.state_dict().items())
    else:
        quantize(model, kind, CPU)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_without_torchao_the_error_says_what_to_install(
    kind: Quantization, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> object:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(EnvironmentProblem, match=r"(?s)torchao.*pip install 'savile\[quantized\]'"):
        quantize(tiny.model("llama"), kind, CPU)


def test_the_command_line_is_silent_about_torchaos_kernels() -> None:
    pytest.importorskip("torchao")
    code = "from savile.cli import main; main(['--version']); import savile.lm.load"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stderr == ""


def test_a_quantized_base_does_not_give_plain_weights() -> None:
    assert ComputeSection().gives == {"plain_weights"}
    assert ComputeSection(quantization="int8").gives == frozenset()


def test_full_and_last_layers_are_rows_with_their_reason() -> None:
    written = {
        "task": "t",
        "data": {"train": "a.jsonl", "test": "b.jsonl"},
        "ladder": ["lora", "dora", "full", "last_layers", "layer_norm"],
    }
    gives = frozenset({"pairs"})
    plain = Spec.model_validate(written).candidates(gives)
    assert {c.name: c.reason for c in plain if c.reason} == {}
    eight_bits = Spec.model_validate({**written, "compute": {"quantization": "int8"}})
    reasons = {c.name: c.reason for c in eight_bits.candidates(gives) if c.reason}
    said = "needs a base that is not quantized (leave compute.quantization out)"
    assert reasons == {"full": said, "last_layers": said}
