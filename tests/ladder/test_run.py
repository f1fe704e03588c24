import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from savile import copies, store
from savile import spec as specs
from savile.deltas.base import Attached
from savile.errors import (
    EnvironmentProblem,
    IntegrityError,
    InterruptedRun,
    LockedError,
    NothingWorkedError,
    UsageError,
)
from savile.job import Job
from savile.ladder import improving
from savile.ladder import run as ladder
from savile.ladder.answer import Customized, best_of
from savile.ladder.folder import PREDICTIONS, REJECTED, WEIGHTS, RunFolder, unit_id
from savile.ladder.prepare import Choice, prepare
from savile.lm.local import PLAIN_BATCHES
from savile.train import Trained
from tests import small_case

Row = dict[str, Any]


def rows(board: ladder.Board) -> dict[str, Row]:
    return {row["technique"]: row for row in board["board"]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> tuple[Path, Path]:
    """Return the spec and the folder of a finished run of the small case."""
    folder = tmp_path_factory.mktemp("finished")
    task = small_case.write_case(folder / "case", tiny_base)
    ladder.run(specs.load(task), folder / "run")
    return task, folder / "run"


def board_of(folder: Path) -> ladder.Board:
    return RunFolder(folder).board() or {}


def test_every_technique_and_baseline_is_measured_on_the_same_rows(
    finished: tuple[Path, Path],
) -> None:
    board = board_of(finished[1])
    assert set(rows(board)) == {
        "majority",
        "nearest_neighbor",
        "zero_shot",
        "few_shot(k=2)",
        "lora(learning_rate=0.02)",
        "prompt_tuning",
    }
    assert {(row["status"], row["n"]) for row in board["board"]} == {("ok", 40)}
    ids = set()
    for file in finished[1].glob(f"measured/*/{PREDICTIONS}"):
        ids.add(tuple(json.loads(line)["id"] for line in file.read_text().splitlines()))
    assert len(ids) == 1


def test_the_board_is_a_whole_document_in_strict_json(finished: tuple[Path, Path]) -> None:
    board = board_of(finished[1])
    assert {"schema_version", "task", "base", "metric", "n_test", "seeds", "test_openings"} <= set(
        board
    )
    assert {"data", "board", "verdict", "seconds", "machine", "versions"} <= set(board)
    assert board["test_openings"] == 1
    scores = [row["score"] for row in board["board"]]
    assert scores == sorted(scores, reverse=True)
    store.dump_json(board)
    parts = sum(board["seconds"][p] for p in ("data", "load", "search", "train", "predict"))
    assert parts <= board["seconds"]["total"]


def test_no_technique_spends_more_than_its_share(finished: tuple[Path, Path]) -> None:
    for name in ("lora(learning_rate=0.02)", "prompt_tuning"):
        assert 0.95 * 320 <= rows(board_of(finished[1]))[name]["train_examples"] <= 320


def test_a_search_leaves_its_rates_on_the_board_and_a_given_rate_is_kept(
    finished: tuple[Path, Path],
) -> None:
    board = rows(board_of(finished[1]))
    assert board["lora(learning_rate=0.02)"]["settings"]["learning_rate"] == 0.02
    searched = board["prompt_tuning"]["settings"]
    assert f"{searched['learning_rate']:g}" in searched["learning_rates_tried"]
    assert len(searched["learning_rates_tried"]) in (3, 4)


def test_settings_show_defaults_and_labels_count_the_dev_rows_that_choose(
    finished: tuple[Path, Path],
) -> None:
    board = rows(board_of(finished[1]))
    tuned = board["lora(learning_rate=0.02)"]
    assert tuned["settings"]["lora"]["r"] == 8
    assert tuned["labels_used"] == 48 + 16
    assert board["few_shot(k=2)"]["labels_used"] == 2


def test_the_test_is_opened_after_the_last_training(finished: tuple[Path, Path]) -> None:
    events = store.read_events(finished[1] / "events.jsonl")
    units = [
        e.get("unit", e["event"]) for e in events if e["event"] in ("committed", "test_opened")
    ]
    opened = units.index("test_opened")
    assert all(unit.startswith("trials/") for unit in units[:opened])
    assert all(unit.startswith("measured/") for unit in units[opened + 1 :])


def test_a_finished_run_is_read_and_not_computed_again(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, folder = finished
    monkeypatch.setattr(ladder, "bases_of", lambda *a, **k: pytest.fail("computed again"))
    assert ladder.run(specs.load(task), folder) == board_of(folder)


def test_another_seed_is_another_run(finished: tuple[Path, Path]) -> None:
    task, folder = finished
    with pytest.raises(UsageError, match=r"`spec\.seed` differs; found 1; expected 0"):
        ladder.run(specs.load(task, ["seed=1"]), folder)


def test_changed_data_are_another_run(finished: tuple[Path, Path]) -> None:
    task, folder = finished
    train = task.parent / "train.jsonl"
    whole = train.read_text()
    train.write_text(whole.replace('"yes"', '"no"', 1))
    try:
        with pytest.raises(UsageError, match=r"`data\.train.jsonl` differs"):
            ladder.run(specs.load(task), folder)
    finally:
        train.write_text(whole)


def test_the_best_technique_answers_new_inputs(finished: tuple[Path, Path]) -> None:
    folder = finished[1]
    best = Customized(folder, best_of(board_of(folder)))
    assert set(best.predict(["lost cup", "sold rug"])) <= {"yes", "no"}
    tuned = Customized(folder, "lora(learning_rate=0.02)")
    unit = f"measured/{unit_id('lora(learning_rate=0.02)', 0)}"
    done = RunFolder(folder).read(unit)
    assert done is not None
    lines = (finished[0].parent / "test.jsonl").read_text().splitlines()
    texts = [json.loads(line)["input"] for line in lines]
    assert tuned.predict(texts) == [p.answer for p in done.predictions]
    with pytest.raises(UsageError, match="has no measured technique 'loro'"):
        Customized(folder, "loro")
    with pytest.raises(UsageError, match=r"input 2: prompt and answer need .* context is 256"):
        tuned.predict(["lost cup", "cup " * 100])


def same(a: ladder.Board, b: ladder.Board) -> bool:
    return timeless(a) == timeless(b)


def timeless(value: Any) -> Any:
    """Return a board without what a clock or a memory meter said."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if "seconds" not in k and k != "peak_bytes"}
        return {k: timeless(v) for k, v in kept.items()}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def weights(folder: Path) -> dict[str, str]:
    files = sorted([*folder.glob(f"trials/*/{WEIGHTS}"), *folder.glob(f"*/*/{PREDICTIONS}")])
    return {str(f.relative_to(folder)): store.file_sha256(f) for f in files}


def test_a_run_stopped_anywhere_goes_on_to_the_same_board(
    finished: tuple[Path, Path], tmp_path: Path
) -> None:
    task, whole = finished
    folder = tmp_path / "run"
    for units in (0, 2, 4, 3):
        with pytest.raises(InterruptedRun):
            ladder.run(specs.load(task), folder, on_progress=small_case.stop_after(units))
    counted = len(list(folder.glob("*/*/result.json")))
    board = ladder.run(specs.load(task), folder)
    assert counted == 9
    assert same(board, board_of(whole))
    assert weights(folder) == weights(whole)
    assert board["test_openings"] == 1


def test_techniques_that_were_still_improving_are_named_on_the_board(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished[1], tmp_path / "run")
    (tmp_path / "run" / "board.json").unlink()
    monkeypatch.setattr(improving, "LEAST_PART", 0.001)
    document = ladder.run(specs.load(finished[0]), tmp_path / "run")
    notes = {name: row["reason"] for name, row in rows(document).items() if row["reason"]}
    (name,) = notes
    said = (
        r"still improving when its budget ended: dev loss 5\.\d\d -> 5\.\d\d over its last 25 %; "
        r"give it more budget\.train_examples"
    )
    assert re.fullmatch(said, notes[name])
    assert name == "lora(learning_rate=0.02)"
    assert f"{name} was still improving" in document["verdict"]["text"]


def test_the_rows_of_a_base_that_cannot_take_trees_say_so(tmp_path: Path) -> None:
    base = small_case.write_base(tmp_path / "base", family="gptj")
    task = small_case.write_case(tmp_path / "case", base, ladder="[zero_shot, {few_shot: {k: 2}}]")
    board = rows(ladder.run(specs.load(task), tmp_path / "run"))
    noted = {name for name, row in board.items() if row["reason"] == PLAIN_BATCHES}
    assert noted == {"zero_shot", "few_shot(k=2)"}
    assert {row["status"] for row in board.values()} == {"ok"}


def test_rows_that_are_set_aside_are_named_in_the_run_folder(task: Path, tmp_path: Path) -> None:
    choice = Choice(only=("zero_shot",))
    ladder.run(specs.load(task), tmp_path / "whole", choice=choice)
    assert not (tmp_path / "whole" / REJECTED).exists()
    train = task.parent / "train.jsonl"
    train.write_text(train.read_text() + '{"input": "lost", "output": ""}\n')
    spec = specs.load(task, ["data.allow_drop=true"])
    document = ladder.run(spec, tmp_path / "run", choice=choice)
    (row,) = map(json.loads, (tmp_path / "run" / REJECTED).read_text().splitlines())
    assert (row["file"], row["line"], row["reason"]) == ("train.jsonl", 49, "empty output")
    assert any("rows set aside: 1; rejected.jsonl" in note for note in document["data"]["notes"])


def test_only_and_skip_choose_by_name(task: Path, tmp_path: Path) -> None:
    spec = specs.load(task)
    chosen = prepare(spec, tmp_path / "a", Choice(only=("zero_shot",)))
    assert [c.name for c in chosen.candidates] == ["zero_shot"]
    left = prepare(spec, tmp_path / "b", Choice(skip=("zero_shot", "few_shot(k=2)")))
    assert [c.name for c in left.candidates] == ["lora(learning_rate=0.02)", "prompt_tuning"]
    with pytest.raises(UsageError, match=r"--only: .*found loro.*Did you mean lora"):
        prepare(spec, tmp_path / "c", Choice(only=("loro",)))
    plain = prepare(spec, tmp_path / "e", Choice(only=("few_shot", "lora")))
    assert [c.name for c in plain.candidates] == ["few_shot(k=2)", "lora(learning_rate=0.02)"]
    with pytest.raises(UsageError, match="leaves no technique"):
        prepare(spec, tmp_path / "d", Choice(only=("zero_shot",), skip=("zero_shot",)))
    assert list(tmp_path.glob("[a-e]")) == []


def test_adding_a_technique_changes_no_other(finished: tuple[Path, Path], tmp_path: Path) -> None:
    choice = Choice(only=("lora(learning_rate=0.02)",))
    ladder.run(specs.load(finished[0]), tmp_path / "alone", choice=choice)
    alone, among = weights(tmp_path / "alone"), weights(finished[1])
    assert len(alone) == 3
    assert alone.items() <= among.items()


def test_seeds_are_measured_apart_and_prompts_without_chance_once(
    tiny_base: Path, tmp_path: Path
) -> None:
    task = small_case.write_case(
        tmp_path / "case",
        tiny_base,
        ladder="[zero_shot, {few_shot: {k: 2}}, {lora: {learning_rate: 0.02}}]",
        more=["seeds: 2"],
    )
    board = rows(ladder.run(specs.load(task), tmp_path / "run"))
    assert board["zero_shot"]["seeds"] == 1
    assert board["few_shot(k=2)"]["seeds"] == 2
    lora = board["lora(learning_rate=0.02)"]
    assert lora["seeds"] == len(lora["score_by_seed"]) == 2
    assert lora["score"] == pytest.approx(sum(lora["score_by_seed"]) / 2)
    assert lora["train_examples"] == 320


def test_what_does_not_fit_is_not_run_with_both_numbers(tiny_base: Path, tmp_path: Path) -> None:
    task = small_case.write_case(
        tmp_path / "case",
        tiny_base,
        ladder="[zero_shot, {few_shot: {k: 30}}, {few_shot+lora: {k: 30}}, chain_of_thought+lora]",
    )
    board = rows(ladder.run(specs.load(task), tmp_path / "run"))
    assert board["zero_shot"]["status"] == "ok"
    long = board["few_shot(k=30)"]
    assert long["status"] == "not_run"
    assert "tokens, the model's context is 256" in long["reason"]
    assert board["few_shot(k=30)+lora"]["status"] == "not_run"
    assert "rationale" in board["chain_of_thought+lora"]["reason"]


def test_when_nothing_worked_the_board_is_kept(tiny_base: Path, tmp_path: Path) -> None:
    task = small_case.write_case(tmp_path / "case", tiny_base, ladder="[{few_shot: {k: 30}}]")
    for _ in range(2):
        with pytest.raises(NothingWorkedError, match=r"few_shot\(k=30\): prompt and answer need"):
            ladder.run(specs.load(task), tmp_path / "run")
    assert rows(board_of(tmp_path / "run"))["majority"]["status"] == "ok"


def broken(job: Job, attached: Attached, **listener: object) -> Trained:
    """Diverge with `lora`, run out of memory with anything else."""
    if not any("lora" in name or "A" in name for name in attached.parameters()):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB")
    nan = float("nan")
    history = [{"step": 1, "loss": nan}]
    why = "diverged at step 1"
    return Trained("diverged", why, -math.inf, nan, 16, 1, 9, 1.0, 1.0, 1, history, {})


def test_one_that_fails_is_a_row_with_a_reason_and_the_others_go_on(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ladder_text = "[zero_shot, {lora: {learning_rate: 0.02}}, lora, prompt_tuning]"
    task = small_case.write_case(tmp_path / "case", tiny_base, ladder=ladder_text)
    monkeypatch.setattr(copies, "train", broken)
    board = rows(ladder.run(specs.load(task), tmp_path / "run"))
    assert board["zero_shot"]["status"] == "ok"
    for name in ("lora(learning_rate=0.02)", "lora"):
        assert (board[name]["status"], board[name]["reason"]) == ("diverged", "diverged at step 1")
    assert board["prompt_tuning"]["status"] == "failed"
    assert "out of memory: CUDA out of memory" in board["prompt_tuning"]["reason"]
    assert all(board[name]["score"] is None for name in board if "lora" in name)


def test_a_full_disk_stops_the_run_and_is_no_result(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *content: object) -> None:
        raise EnvironmentProblem("no space to write")

    with monkeypatch.context() as patch:
        patch.setattr(store, "commit_dir", full)
        with pytest.raises(EnvironmentProblem, match="no space"):
            ladder.run(specs.load(task), tmp_path / "run", choice=Choice(only=("zero_shot",)))
    board = ladder.run(specs.load(task), tmp_path / "run", choice=Choice(only=("zero_shot",)))
    assert rows(board)["zero_shot"]["status"] == "ok"


def test_two_processes_do_not_share_a_folder(task: Path, tmp_path: Path) -> None:
    with store.run_lock(tmp_path / "run"), pytest.raises(LockedError):
        ladder.run(specs.load(task), tmp_path / "run")


def test_without_out_the_same_command_finds_its_own_folder(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    choice = Choice(only=("zero_shot",))
    ladder.run(specs.load(task), choice=choice)
    ladder.run(specs.load(task), choice=choice)
    ladder.run(specs.load(task, ["seed=5"]), choice=choice)
    assert sorted(p.name for p in (tmp_path / "runs").glob("[!.]*")) == ["small", "small-2"]
    both = [board_of(tmp_path / "runs" / name) for name in ("small", "small-2")]
    assert [board["test_openings"] for board in both] == [1, 2]


def test_a_fork_starts_another_run_beside_the_first(task: Path, tmp_path: Path) -> None:
    choice, out = Choice(only=("zero_shot",)), tmp_path / "run"
    spec, changed = specs.load(task), specs.load(task, ["seed=5"])
    assert prepare(spec, out, choice, fork=True).folder.path == out
    first = ladder.run(spec, out, choice=choice)
    assert prepare(spec, out, choice, fork=True).folder.path == out
    with pytest.raises(UsageError, match="or --fork for one beside it"):
        prepare(changed, out, choice)
    forked = prepare(changed, out, choice, fork=True)
    assert forked.folder.path == tmp_path / "run-2"
    assert ladder.execute(forked)["test_openings"] == 2
    assert board_of(out) == first


def test_only_test_rows_leave_a_board_without_baselines_and_dev(
    tiny_base: Path, tmp_path: Path
) -> None:
    ladder_text = "[zero_shot, {lora: {learning_rate: 0.02}}]"
    task = small_case.write_case(tmp_path / "case", tiny_base, ladder=ladder_text)
    task.write_text(task.read_text().replace("train: train.jsonl, dev: dev.jsonl, ", ""))
    board = rows(ladder.run(specs.load(task, ["budget.seconds=600"]), tmp_path / "run"))
    assert set(board) == {"zero_shot", "lora(learning_rate=0.02)"}
    assert (board["zero_shot"]["status"], board["zero_shot"]["dev_score"]) == ("ok", None)
    assert "needs train rows" in board["lora(learning_rate=0.02)"]["reason"]


def test_dev_rows_that_judge_are_counted(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("savile.ladder.task.MOST_JUDGES", 4)
    choice = Choice(only=("zero_shot",))
    board = ladder.run(specs.load(task), tmp_path / "run", choice=choice)
    assert (board["data"]["dev"], board["data"]["dev_judging"]) == (16, 4)
    assert any("4 of 16 rows choose the settings" in note for note in board["data"]["notes"])


def test_another_base_under_the_same_name_answers_nothing(tmp_path: Path) -> None:
    base = small_case.write_base(tmp_path / "base")
    task = small_case.write_case(tmp_path / "case", base, ladder="[zero_shot]")
    ladder.run(specs.load(task), tmp_path / "run")
    assert Customized(tmp_path / "run", "zero_shot").predict(["lost cup"])
    small_case.write_base(base, seed=4)
    with pytest.raises(IntegrityError, match="is not the one that was measured"):
        Customized(tmp_path / "run", "zero_shot")
