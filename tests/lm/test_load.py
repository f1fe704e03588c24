"""A base is found by name and loaded whole, or the sentence says what was tried."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from savile.errors import EnvironmentProblem, NoMemory
from savile.lm import load as loading
from savile.lm import memory
from savile.lm.tree import build
from tests import tiny


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("models")
    for family in ("llama", "gpt2"):
        tiny.model(family).save_pretrained(folder / family)
        tiny.tokenizer().save_pretrained(folder / family)
    return folder


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_saved_model_comes_back_to_the_bit(models: Path, family: str) -> None:
    lm = loading.load(family, folder=models, device="cpu", dtype="float32")
    lm.amp = None
    tree = build(tiny.groups())
    with torch.no_grad():
        assert torch.equal(lm.logprobs(tree), tiny.lm(family).logprobs(tree))
    assert lm.name == family
    assert lm.uses_tree
    assert not any(p.requires_grad for p in lm.model.parameters())


def test_bfloat16_weights_are_loaded_as_asked(models: Path) -> None:
    lm = loading.load("llama", folder=models, device="cpu", dtype="bfloat16")
    assert {p.dtype for p in lm.model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("device", ["abacus", "cuda:77"])
def test_a_device_that_is_not_there_is_named(models: Path, device: str) -> None:
    with pytest.raises(EnvironmentProblem, match="device"):
        loading.load("llama", folder=models, device=device)


def test_the_identity_needs_no_loading(models: Path) -> None:
    assert len(loading.identity("llama", models)) == 64
    assert loading.identity("llama", models) != loading.identity("gpt2", models)


def test_loading_says_nothing_and_transformers_keeps_its_voice(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    state = {**tiny.model("llama").state_dict(), "model.stray.weight": torch.zeros(3)}
    tiny.model("llama").save_pretrained(tmp_path / "stray", state_dict=state)
    tiny.tokenizer().save_pretrained(tmp_path / "stray")
    capfd.readouterr()
    loading.load("stray", folder=tmp_path, device="cpu")
    assert (capfd.readouterr(), caplog.text) == (("", ""), "")
    AutoModelForCausalLM.from_pretrained(tmp_path / "stray")  # unasked, it speaks as before
    assert "Loading weights" in capfd.readouterr().err
    assert "stray.weight" in caplog.text


def test_a_base_larger_than_the_free_memory_is_refused_before_it_is_read(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    monkeypatch.delattr(loading, "_weights")
    size = tiny.model("llama").num_parameters()
    with pytest.raises(NoMemory, match="the base does not fit the memory") as found:
        loading.load("llama", folder=models, device="cpu", dtype="float32")
    assert found.value.exit_code == 4
    assert f"{4 * size + loading.WORKING:,} bytes: its weights" in str(found.value)


@pytest.mark.parametrize("bar", [True, False])
def test_a_base_that_cannot_be_loaded_leaves_the_voice_as_it_was(
    models: Path, tmp_path: Path, bar: bool
) -> None:
    shutil.copytree(models / "llama", tmp_path / "torn")
    (tmp_path / "torn" / "tokenizer.json").write_text("{}")
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    set_bar(bar)
    try:
        with pytest.raises(EnvironmentProblem):
            loading.load("torn", folder=tmp_path, device="cpu")
        assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (level, bar)
    finally:
        set_bar(shown)


def set_bar(shown: bool) -> None:
    logging.enable_progress_bar() if shown else logging.disable_progress_bar()
