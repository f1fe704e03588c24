import json
from pathlib import Path

import pytest

from savile.errors import IntegrityError, UsageError
from savile.ladder.folder import PREDICTIONS, RunFolder, unit_id
from savile.types import Prediction

IDENTITY = {"spec": {"seed": 0, "labels": ["no", "010"]}, "base": "abc"}


def begun(path: Path) -> RunFolder:
    path.mkdir(exist_ok=True)
    folder = RunFolder(path)
    folder.begin(IDENTITY, {"machine": {}})
    (path / "plan.json").write_text("{}")
    return folder


def test_names_of_units_are_safe_and_unique() -> None:
    names = ["few_shot(k=4)+lora", "few_shot(k=4)-lora", "a/../b", "lora", "x" * 300]
    ids = {unit_id(name, 0) for name in names} | {unit_id("lora", 1), unit_id("lora", 0, 2)}
    assert len(ids) == 7
    assert all("/" not in i and not i.startswith(".") and len(i) < 80 for i in ids)


def test_a_committed_unit_is_read_back_as_it_was(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    predictions = [
        Prediction(id="1", text='y"es\u2028', answer="yes"),
        Prediction(id="2", text="", answer=None),
    ]
    assert folder.read("trials/a") is None
    written = folder.commit("trials/a", {"status": "ok", "x": 0.1}, predictions, {"w": b"\0"})
    assert folder.read("trials/a") == written
    assert written.predictions == tuple(predictions)
    assert written.files()["w"] == b"\0"
    assert set(vars(written)) == {"path", "result", "predictions"}  # no weights in memory


def test_a_changed_byte_of_a_unit_is_found(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    folder.commit("trials/a", {"status": "ok"}, [Prediction(id="1", text="a", answer="a")])
    file = tmp_path / "trials" / "a" / PREDICTIONS
    file.write_bytes(file.read_bytes().replace(b'"a"', b'"b"'))
    with pytest.raises(IntegrityError, match=r"predictions\.jsonl"):
        folder.read("trials/a")


def test_a_kill_between_a_unit_and_its_event_is_mended(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    folder.commit("trials/a", {"status": "ok"})
    folder.commit("trials/b", {"status": "ok"})
    lines = folder.events_path.read_bytes().splitlines(keepends=True)
    whole = folder.events("committed")
    folder.events_path.write_bytes(b"".join(lines[:-1]))
    assert [e["unit"] for e in folder.events("committed")] == ["trials/a"]
    for _ in range(2):  # mended once, however often the run goes on
        begun(tmp_path)
        found = folder.events("committed")
        assert [(e["unit"], e["sha256"]) for e in found] == [
            (e["unit"], e["sha256"]) for e in whole
        ]
        assert [e.get("mended", False) for e in found] == [False, True]


def test_the_same_run_goes_on_and_another_is_refused_naming_the_key(tmp_path: Path) -> None:
    begun(tmp_path)
    begun(tmp_path)
    with pytest.raises(UsageError, match=r"`spec.seed` differs; found 1; expected 0"):
        RunFolder(tmp_path).begin({**IDENTITY, "spec": {**IDENTITY["spec"], "seed": 1}}, {})  # type: ignore[dict-item]


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_bytes(b"")
    with pytest.raises(UsageError, match="is not a run folder"):
        RunFolder(tmp_path).refuse_strangers()
    assert [item.name for item in tmp_path.iterdir()] == ["thesis.docx"]  # nothing was written


def test_the_spec_in_the_folder_keeps_words_that_look_like_numbers(tmp_path: Path) -> None:
    begun(tmp_path)
    assert '"010"' in (tmp_path / "spec.yaml").read_text().replace("'", '"')


def test_another_device_is_refused(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    folder.same_device("cpu")
    folder.same_device("cpu")
    with pytest.raises(UsageError, match="`device` differs"):
        folder.same_device("cuda:0")


def test_the_board_is_there_only_when_finished_and_unchanged(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    assert folder.board() is None
    folder.finish({"task": "small", "score": 0.5})
    assert folder.board() == {"task": "small", "score": 0.5}
    file = tmp_path / "board.json"
    file.write_text(json.dumps({"task": "small", "score": 0.9}))
    with pytest.raises(IntegrityError, match="is not the board the run wrote"):
        folder.board()
    file.unlink()
    assert folder.board() is None


def test_every_run_beside_it_that_opened_the_same_test_is_counted(tmp_path: Path) -> None:
    first, second = begun(tmp_path / "run"), begun(tmp_path / "run-2")
    other = {**IDENTITY, "base": "def"}
    assert first.count_opening("t" * 64, IDENTITY) == 1
    assert first.count_opening("t" * 64, IDENTITY) == 1
    assert second.count_opening("t" * 64, other) == 2
    assert second.count_opening("u" * 64, other) == 1


def test_a_start_that_failed_before_its_plan_loses_nothing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.begin({"spec": {}, "base": "broken"}, {})
    mended = {"spec": {}, "base": "mended"}
    assert folder.difference(mended) is None
    folder.begin(mended, {})
    manifest = folder.manifest()
    assert manifest is not None
    assert manifest["identity"]["base"] == "mended"
    (folder.path / "plan.json").write_text("{}")
    assert folder.difference({"spec": {}, "base": "other"}) is not None
