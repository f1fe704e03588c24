"""The Python API gives what the command line gives."""

import json
from pathlib import Path

import pytest

import savile
from savile import api
from savile.errors import UsageError
from savile.ladder.progress import Step
from tests import small_case


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> savile.Run:
    """Return a finished run of the small case."""
    folder = tmp_path_factory.mktemp("api")
    task = small_case.write_case(folder, small_case.write_base(folder / "base"))
    return savile.run(task, folder / "run", only=["zero_shot", "lora"])


def test_a_run_has_a_board_a_verdict_and_a_best_technique(run: savile.Run) -> None:
    names = {row["technique"] for row in run.board}
    assert {"zero_shot", "lora(learning_rate=0.02)", "majority"} <= names
    assert run.verdict in repr(run)
    assert run.best.technique in names
    assert len(run.best.predict(["lost cup", "sold rug", "kept pen"])) == 3
    assert run.technique("zero_shot").predict(["lost cup"])[0] in ("yes", "no")


def test_a_notebook_shows_a_table_in_which_names_are_inert(run: savile.Run) -> None:
    run.document["board"][0]["technique"] = "<script>alert(1)</script>"
    shown = run._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert shown.count("<tr>") == len(run.board) + 1


def test_a_finished_run_is_opened_again_and_an_empty_folder_is_refused(
    run: savile.Run, tmp_path: Path
) -> None:
    assert savile.Run(run.folder).verdict == run.verdict
    with pytest.raises(UsageError, match="holds no finished run"):
        savile.Run(tmp_path)
    with pytest.raises(UsageError, match="holds no finished run"):
        savile.Run(tmp_path / "nothing")


def test_preferences_are_built_from_samples_and_from_logs(run: savile.Run, tmp_path: Path) -> None:
    task, out = run.folder.parent / "task.yaml", tmp_path / "pairs.jsonl"
    hot = api.Drawing(samples=6, temperature=8.0)
    built = api.build_preferences(task, out, hot, overrides=["seed=3"])
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert lines == list(built.pairs)
    assert {line["seed"] for line in lines} == {3}
    with pytest.raises(UsageError, match="is there already"):
        api.build_preferences(task, out, hot)
    logs = tmp_path / "logs.csv"
    logs.write_text("prompt,response,score\nq,good,1\nq,bad,0\n", encoding="utf-8")
    paired = api.pair_logs(task, logs, tmp_path / "logged.jsonl")
    assert [(p["chosen"], p["rejected"]) for p in paired.pairs] == [("good", "bad")]
    assert (tmp_path / "logged.jsonl").is_file()


def test_progress_is_told(tmp_path: Path) -> None:
    task = small_case.write_case(tmp_path, small_case.write_base(tmp_path / "base"))
    heard: list[Step] = []
    savile.run(task, tmp_path / "run", only=["zero_shot"], on_progress=heard.append)
    assert heard[0].phase == "load"
    assert heard[-1].phase == "done"
    assert [step.finished is not None for step in heard].count(True) == 2
