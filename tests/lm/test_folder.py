"""A model folder is refused with its file and reason before anything of it is loaded."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from savile.errors import EnvironmentProblem, IntegrityError, SavileError
from savile.lm import folder as model_folder
from savile.lm import load as loading
from tests import tiny


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("models") / "good"
    tiny.model("llama").save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def base(good: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "base"
    copy.mkdir()
    for file in good.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def edit(file: Path, **changes: Any) -> None:
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**known, **changes}))


def config(**changes: Any) -> Callable[[Path], None]:
    return lambda base: edit(base / "config.json", **changes)


def index(**weight_map: Any) -> Callable[[Path], None]:
    return lambda base: edit(base / "model.safetensors.index.json", weight_map=weight_map)


def header(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Return what rewrites the safetensors header of a base."""

    def apply(base: Path) -> None:
        file = base / "model.safetensors"
        raw = file.read_bytes()
        length = struct.unpack("<Q", raw[:8])[0]
        told = json.loads(raw[8 : 8 + length])
        changed = json.dumps(change(told)).encode()
        file.write_bytes(struct.pack("<Q", len(changed)) + changed + raw[8 + length :])

    return apply


def overlap(told: dict[str, Any]) -> dict[str, Any]:
    first, second = [k for k in told if k != "__metadata__"][:2]
    told[second]["data_offsets"] = told[first]["data_offsets"]
    return told


def other_shape(told: dict[str, Any]) -> dict[str, Any]:
    first = next(k for k in told if k != "__metadata__")
    told[first]["shape"] = [1, *told[first]["shape"], 3]
    return told


def wrong_offsets(told: dict[str, Any]) -> dict[str, Any]:
    told[next(k for k in told if k != "__metadata__")]["data_offsets"] = [0, 1, 2]
    return told


def cut(base: Path) -> None:
    file = base / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def weights(data: bytes) -> Callable[[Path], None]:
    def apply(base: Path) -> None:
        (base / "model.safetensors").write_bytes(data)

    return apply


def text(name: str, content: str) -> Callable[[Path], None]:
    def apply(base: Path) -> None:
        (base / name).write_text(content)

    return apply


def remove(name: str) -> Callable[[Path], None]:
    return lambda base: (base / name).unlink()


def pickled(base: Path) -> None:
    (base / "model.safetensors").rename(base / "pytorch_model.bin")


def not_finite(base: Path) -> None:
    model = tiny.model("llama")
    with torch.no_grad():
        next(model.parameters())[0, 0] = float("nan")
    model.save_pretrained(base)


def few_rows(base: Path) -> None:
    model = tiny.model("llama")
    model.resize_token_embeddings(200)
    model.save_pretrained(base)


def missing_tensor(base: Path) -> None:
    model = tiny.model("llama")
    state = model.state_dict()
    del state["model.layers.1.mlp.up_proj.weight"]
    model.save_pretrained(base, state_dict=state)


KERNEL = "kernels-community/evil"
DEEP = {"a": [{"b": {"trust_remote_code": True}}]}
CASES: dict[str, tuple[Callable[[Path], None], type[SavileError], str]] = {
    "no config": (remove("config.json"), EnvironmentProblem, "config.json is missing"),
    "broken config": (text("config.json", '{"a": '), EnvironmentProblem, "not readable JSON"),
    "config is a list": (text("config.json", "[1]"), EnvironmentProblem, "JSON object"),
    "config is not UTF-8": (
        lambda base: (base / "config.json").write_bytes(b'{"a": "\xff"}') and None,
        EnvironmentProblem,
        "not readable JSON",
    ),
    "config nested without end": (
        text("config.json", '{"a":' * 100_000 + "1" + "}" * 100_000),
        EnvironmentProblem,
        "not readable JSON",
    ),
    "unknown type": (config(model_type="never_seen"), EnvironmentProblem, "'never_seen'"),
    "no type": (config(model_type=None), EnvironmentProblem, "no model_type"),
    "type of numbers": (config(model_type=3), EnvironmentProblem, "model_type 3"),
    "vocab_size too small": (
        config(vocab_size=100),
        EnvironmentProblem,
        "vocab_size 100.* 264, the",
    ),
    "vocab_size too large": (
        config(vocab_size=999),
        EnvironmentProblem,
        "vocab_size 999.* 264, the",
    ),
    "pickle": (pickled, IntegrityError, "pickled weights"),
    "no weights": (remove("model.safetensors"), EnvironmentProblem, "no model weights"),
    "cut weights": (cut, IntegrityError, "truncated"),
    "empty weights": (weights(b""), IntegrityError, "truncated"),
    "no header": (weights(b"12345"), IntegrityError, "truncated"),
    "a header of 2^60 bytes": (weights(struct.pack("<Q", 1 << 60)), IntegrityError, "truncated"),
    "a header that is no JSON": (
        weights(struct.pack("<Q", 4) + b"{{{{"),
        IntegrityError,
        "header cannot be read",
    ),
    "a header that is a list": (header(lambda told: [1]), IntegrityError, "header cannot be read"),
    "offsets that are three": (header(wrong_offsets), IntegrityError, "header cannot be read"),
    "overlap": (header(overlap), IntegrityError, "overlap"),
    "a shape that does not fit": (header(other_shape), IntegrityError, "cannot be read"),
    "index out of the folder": (index(x="../a.safetensors"), IntegrityError, "outside its folder"),
    "index of the parent": (index(x=".."), IntegrityError, "outside its folder"),
    "index of nothing": (index(x=""), IntegrityError, "outside its folder"),
    "index of numbers": (index(x=3), IntegrityError, "outside its folder"),
    "absolute index": (index(x="/etc/passwd"), IntegrityError, "outside its folder"),
    "missing shard": (index(x="model-2.safetensors"), IntegrityError, "shards of the model"),
    "index without a map": (
        text("model.safetensors.index.json", '{"weight_map": [1]}'),
        IntegrityError,
        "shards of the model",
    ),
    "auto_map": (config(auto_map={"AutoModel": "x.Y"}), IntegrityError, "never runs"),
    "deep trust_remote_code": (config(sub=DEEP), IntegrityError, "never runs"),
    "trust in the tokenizer": (
        lambda base: edit(base / "tokenizer_config.json", x=DEEP),
        IntegrityError,
        "never runs",
    ),
    "auto_map of a processor": (
        lambda base: edit(base / "processor_config.json", auto_map={"AutoProcessor": "x.Y"}),
        IntegrityError,
        "never runs",
    ),
    "kernel": (config(attn_implementation=KERNEL), IntegrityError, "never runs"),
    "kernel inside": (config(_attn_implementation_internal=KERNEL), IntegrityError, "never runs"),
    "kernel by part": (config(_attn_implementation={"": KERNEL}), IntegrityError, "never runs"),
    "an adapter": (
        lambda base: edit(base / "adapter_config.json", base_model_name_or_path="elsewhere"),
        EnvironmentProblem,
        "adapter",
    ),
    "encoder": (config(architectures=["BertModel"]), EnvironmentProblem, "causal"),
    "encoder-decoder": (config(is_encoder_decoder=True), EnvironmentProblem, "causal"),
    "architectures of numbers": (config(architectures=[3]), EnvironmentProblem, "causal"),
    "no tokenizer": (remove("tokenizer.json"), EnvironmentProblem, "tokenizer"),
    "broken tokenizer": (text("tokenizer.json", "{"), EnvironmentProblem, "tokenizer"),
    "few rows": (few_rows, EnvironmentProblem, "more tokens than the model"),
    "not finite": (not_finite, IntegrityError, "NaN or infinite"),
    "missing tensor": (missing_tensor, IntegrityError, "weights are missing"),
    "hostile template": (
        text("chat_template.jinja", "{{ ''.__class__.__mro__[1].__subclasses__() }}"),
        IntegrityError,
        "chat template cannot be rendered",
    ),
    "template bomb": (
        text("chat_template.jinja", "{{ 'a' * 10 ** 10 }}"),
        IntegrityError,
        "chat template needs more than",
    ),
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_a_bad_folder_is_refused(base: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil, kind, words = CASES[case]
    spoil(base)
    canary = base.parent / "canary"
    monkeypatch.chdir(base.parent)
    for name in ("x.py", "modeling_x.py"):  # code that must never run
        (base / name).write_text(f"open({str(canary)!r}, 'w').close()")
    with pytest.raises(kind, match=words) as caught:
        loading.load("base", folder=base.parent)
    assert "base" in str(caught.value)
    assert not canary.exists()


def test_a_good_folder_is_whole(good: Path) -> None:
    assert model_folder.validate(good)["model_type"] == "llama"
    assert [f.name for f in model_folder.weight_files(good)] == ["model.safetensors"]


def test_shards_are_found_and_checked(base: Path) -> None:
    (base / "model.safetensors").unlink()
    tiny.model("llama").save_pretrained(base, max_shard_size="60KB")
    assert len(model_folder.weight_files(base)) > 1
    loading.load("base", folder=base.parent)
    shard = model_folder.weight_files(base)[1]
    shard.write_bytes(shard.read_bytes()[:-8])
    with pytest.raises(IntegrityError, match=shard.name):
        model_folder.validate(base)


def test_the_identity_follows_what_matters(base: Path) -> None:
    first = model_folder.identity(base)
    (base / "README.md").write_text("new words")
    assert model_folder.identity(base) == first
    edit(base / "config.json", rope_theta=5.0)
    second = model_folder.identity(base)
    assert second != first
    raw = bytearray((base / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (base / "model.safetensors").write_bytes(raw)
    assert model_folder.identity(base) != second


@pytest.mark.parametrize("flipped", [3, 40, -1000])
def test_a_flipped_bit_changes_the_identity(base: Path, flipped: int) -> None:
    before = model_folder.identity(base)
    file = base / "model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[flipped] ^= 4
    file.write_bytes(raw)
    assert model_folder.identity(base) != before


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "chat_template.json"])
def test_a_changed_tokenizer_or_template_changes_the_identity(base: Path, name: str) -> None:
    (base / name).write_text("{}", encoding="utf-8")
    before = model_folder.identity(base)
    (base / name).write_text('{"a": 1}', encoding="utf-8")
    assert model_folder.identity(base) != before
