"""The extra for sentence encoders: asked as it documents, missing with a sentence."""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from savile.errors import EnvironmentProblem
from savile.lm import sentences
from tests import tiny


class Encoder:
    """Answers the calls of sentence-transformers that are used; a folder must exist."""

    def __init__(self, name: str, **settings: Any) -> None:
        assert settings == {
            "trust_remote_code": False,
            "local_files_only": True,
            "model_kwargs": {"use_safetensors": True},
        }
        if not Path(name).is_dir():
            raise OSError(f"{name} is not a local folder\nand more")

    def encode(self, texts: list[str], **settings: Any) -> Any:
        assert settings == {"show_progress_bar": False, "convert_to_numpy": True}
        return tiny.letters(texts).astype(np.float64)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    library: Any = SimpleNamespace(SentenceTransformer=Encoder)
    monkeypatch.setitem(sys.modules, sentences.LIBRARY, library)


@pytest.mark.usefixtures("installed")
def test_texts_become_vectors(tmp_path: Path) -> None:
    texts: Sequence[str] = ["aab", "b"]
    found = sentences.encode(str(tmp_path), texts)
    assert found.dtype == np.float32
    assert found[:, [ord("a"), ord("b")]].tolist() == [[2, 1], [0, 1]]


@pytest.mark.usefixtures("installed")
def test_an_encoder_that_is_not_here_says_how_to_get_it() -> None:
    with pytest.raises(EnvironmentProblem, match="hf download acme/encoder") as caught:
        sentences.encode("acme/encoder", ["a"])
    assert "and more" not in str(caught.value)


@pytest.mark.usefixtures("installed")
def test_a_name_is_no_folder_that_happens_to_be_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme" / "mini").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EnvironmentProblem, match="the one in the current folder is not meant"):
        sentences.encode("acme/mini", ["a"])


def test_without_the_extra_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, sentences.LIBRARY, None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'savile\[sentences\]'"):
        sentences.encode("acme/encoder", ["a"])
