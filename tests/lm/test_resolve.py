"""A base is found by its name without torch, or the sentence says what was tried and where."""

from pathlib import Path

import pytest

from savile.errors import EnvironmentProblem
from savile.lm.resolve import at_hand, resolve


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "llama").mkdir()
    (tmp_path / "weights.safetensors").write_bytes(b"")
    return tmp_path


def test_folders_and_embedded_models_are_found(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve("llama", models) == models / "llama"
    assert resolve(str(models / "llama"), Path("/")) == models / "llama"
    assert resolve("embedded", models).name == "small"
    monkeypatch.setenv("HOME", str(models))
    assert at_hand("~/llama", Path("/nowhere")) == models / "llama"


@pytest.mark.parametrize(
    ("base", "says"),
    [
        ("./lama", "Did you mean llama?"),
        ("embeded", "Did you mean embedded?"),
        ("embedded_large", "Did you mean embedded-large?"),
        ("~nobody_here/llama", "Check the path"),
        ("a/b/c", "Check the path"),
        ("weights.safetensors", "is a file"),
    ],
)
def test_a_name_that_is_no_hub_id_is_missing_without_asking(
    models: Path, base: str, says: str
) -> None:
    for find in (resolve, at_hand):
        with pytest.raises(EnvironmentProblem, match="was not found") as caught:
            find(base, models)
        said = str(caught.value)
        assert says in said
        assert "hub " not in said
        assert "connection" not in said


def test_a_hub_id_that_is_not_cached_names_the_cache(models: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="HF_HUB_OFFLINE is set") as caught:
        resolve("no-such/model", models)
    assert str(models / "cache") in str(caught.value)
    assert "Did you mean llama? Unset HF_HUB_OFFLINE" in _said("lama", models)
    assert at_hand("no-such/model", models) is None


def test_a_cached_hub_id_is_found_without_the_network(models: Path) -> None:
    home = models / "cache" / "models--some--model"
    snapshot = home / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("a" * 40)
    assert at_hand("some/model", models) is None  # nothing but its folder
    (snapshot / "config.json").write_text("{}")
    assert at_hand("some/model", models) == snapshot


def _said(base: str, models: Path) -> str:
    with pytest.raises(EnvironmentProblem) as caught:
        resolve(base, models)
    return str(caught.value)
