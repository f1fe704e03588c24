"""A sentence encoder is found from the spec's folder, and its files are part of what a run is."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from savile import cli
from savile import spec as specs
from savile.errors import EnvironmentProblem, IntegrityError, UsageError
from savile.handover import export, load_customized
from savile.ladder import run as ladder
from savile.ladder.answer import Customized
from savile.lm import encoder, sentences
from tests import small_case, tiny


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the folders that the encoder is loaded from."""
    found: list[str] = []

    def encode(folder: str, texts: Sequence[str]) -> Any:
        found.append(folder)
        return tiny.letters(texts)

    monkeypatch.setattr(sentences, "encode", encode)
    return found


@pytest.fixture
def task(tmp_path: Path, tiny_base: Path) -> Path:
    """Return a spec whose encoder lies beside it."""
    rungs = "[{nearest_sentences: {k: 2, encoder: ./encoder}}]"
    path = small_case.write_case(tmp_path / "case", tiny_base, ladder=rungs)
    folder = path.parent / "encoder"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "1_Pooling" / "config.json").write_text("{}")
    return path


def test_a_relative_folder_starts_at_the_spec_s(
    task: Path, tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    board = ladder.run(specs.load(task), tmp_path / "run")
    assert {row["status"] for row in board["board"]} == {"ok"}
    assert {Path(folder) for folder in asked} == {task.parent / "encoder"}
    name = next(row["technique"] for row in board["board"] if row["kind"] == "prompt")
    answers = Customized(tmp_path / "run", name).predict(["lost cup"])
    assert set(answers) <= {"yes", "no"}
    (task.parent / "encoder" / "1_Pooling" / "config.json").write_text('{"other": 1}')
    with pytest.raises(UsageError, match=r"`encoders\..*` differs"):
        ladder.run(specs.load(task), tmp_path / "run")
    with pytest.raises(IntegrityError, match="is not the one that was measured with"):
        Customized(tmp_path / "run", name)


def test_an_exported_folder_s_encoder_is_looked_for_in_it(
    task: Path, tiny_base: Path, tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ladder.run(specs.load(task), tmp_path / "run")
    made = export(tmp_path / "run", tmp_path / "handed")
    said = (made.folder / "README.md").read_text(encoding="utf-8")
    assert "| sentence encoder | `./encoder`, not part of this folder, where a relative" in said
    assert "|\n\n## Load" in said
    monkeypatch.chdir(task.parent)  # where there is one, which is not meant
    handed = load_customized(made.folder, tiny_base, device="cpu")
    with pytest.raises(EnvironmentProblem, match=r"found no folder .*handed/encoder. Put it there"):
        handed.predict(["lost cup"])
    shutil.copytree("encoder", made.folder / "encoder")
    asked.clear()
    assert set(handed.predict(["lost cup"])) <= {"yes", "no"}
    assert {Path(folder) for folder in asked} == {made.folder / "encoder"}


def test_every_file_that_decides_is_in_the_identity(task: Path) -> None:
    folder = task.parent / "encoder"
    before = encoder.identity("encoder", task.parent)
    assert before == encoder.identity(str(folder), Path("nowhere"))
    (folder / "README.md").write_text("not decisive")
    assert encoder.identity("encoder", task.parent) == before
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert encoder.identity("encoder", task.parent) != before


def test_what_is_not_here_is_said_before_a_run(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = "ladder=[{nearest_sentences: {encoder: ./encodr}}]"
    with pytest.raises(EnvironmentProblem, match=r"'\./encodr' was not found"):
        ladder.run(specs.load(task, [path]), tmp_path / "run")
    name = "ladder=[{nearest_sentences: {encoder: acme/encoder}}]"
    assert cli.main(["check", str(task), "--set", name]) == 0
    said = "note: sentence encoder acme/encoder: not on this machine; what needs it will fail"
    assert said in capsys.readouterr().out
