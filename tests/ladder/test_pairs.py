"""The preference builder: own answers to train rows and logs become pairs that can be read back."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from savile import data
from savile import spec as specs
from savile.data.pairing import EQUAL, FEW, PAIRED, USED, Built
from savile.errors import DataError, UsageError
from savile.ladder import pairs
from savile.ladder import run as ladder
from savile.ladder.drawing import Drawing
from savile.ladder.progress import Step
from savile.metrics.token_f1 import TokenF1
from savile.spec import Spec
from tests import small_case
from tests.endpoint_server import Server, answers

HOT = Drawing(samples=6, temperature=8.0)
"""The random base is sure of one label: only hot samples differ."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a case whose labels are sampled, with a finished run of a tuned technique."""
    folder = tmp_path_factory.mktemp("pairs")
    base = small_case.write_base(folder / "base")
    task = small_case.write_case(folder, base, ladder="[{lora: {learning_rate: 0.02}}]")
    ladder.run(specs.load(task), folder / "run")
    return folder


@pytest.fixture(scope="module")
def spec(folder: Path) -> Spec:
    return specs.load(folder / "task.yaml")


@pytest.fixture(scope="module")
def built(spec: Spec) -> Built:
    return pairs.from_samples(spec, HOT)


def read_back(spec: Spec, built: Built, out: Path) -> Any:
    pairs.write(built, out)
    return data.load(specs.load(spec.path, [f"data.preferences={out}"]))


def test_train_rows_alone_are_answered_and_each_is_counted(spec: Spec, built: Built) -> None:
    dataset = data.load(spec)
    train = {row.input for row in dataset.train}
    held_out = {row.input for row in (*dataset.dev, *dataset.test.open("a test"))}
    asked = {pair["prompt"] for pair in built.pairs}
    assert asked <= train
    assert not asked & held_out
    assert sum(built.questions.values()) == len(train)
    assert built.questions[PAIRED] == len(built.pairs) > 0
    assert set(built.questions) <= {PAIRED, EQUAL, FEW}


def test_the_metric_says_which_answer_is_chosen(spec: Spec, built: Built) -> None:
    wanted = {row.input: row.output for row in data.load(spec).train}
    for pair in built.pairs:
        assert pair["chosen"] == wanted[pair["prompt"]] != pair["rejected"]
        assert (pair["chosen_score"], pair["rejected_score"]) == (1.0, 0.0)


def test_a_pair_says_where_it_is_from(spec: Spec, built: Built) -> None:
    ids = {row.id: row.input for row in data.load(spec).train}
    for pair in built.pairs:
        assert ids[pair["row"]] == pair["prompt"]
        assert {pair["chosen_sample"], pair["rejected_sample"]} <= set(range(6))
        assert pair["technique"] == "zero_shot"
        assert (pair["metric"], pair["seed"], pair["samples"]) == ("accuracy", 0, 6)
        assert (pair["temperature"], pair["top_p"]) == (8.0, 1.0)
        assert pair["base"]


def test_what_is_built_is_read_back_and_trains(spec: Spec, built: Built, tmp_path: Path) -> None:
    found = read_back(spec, built, tmp_path / "pairs.jsonl")
    read = {(p.input, p.chosen, p.rejected) for p in (*found.preferences, *found.dev_preferences)}
    assert read == {(p["prompt"], p["chosen"], p["rejected"]) for p in built.pairs}
    assert found.dev_preferences
    changes = [f"data.preferences={tmp_path / 'pairs.jsonl'}", "ladder=[lora+dpo]"]
    task = specs.load(spec.path, [*changes, "budget.train_examples=32", "budget.search=1"])
    (row,) = [r for r in ladder.run(task, tmp_path / "run")["board"] if r["kind"] == "tuned"]
    assert row["status"] == "ok", row["reason"]


def test_the_same_seed_gives_the_same_file(spec: Spec, built: Built, tmp_path: Path) -> None:
    names = ("one.jsonl", "two.jsonl", "other.jsonl")
    other = specs.load(spec.path, ["seed=1"])
    for name, given in zip(names, (spec, spec, other), strict=True):
        pairs.write(pairs.from_samples(given, HOT), tmp_path / name)
    one, two, three = ((tmp_path / name).read_bytes() for name in names)
    assert one == two != three


def test_the_spec_may_name_the_file_that_is_to_be_built(spec: Spec, built: Built) -> None:
    named = specs.load(spec.path, ["data.preferences=not_yet.jsonl"])
    assert pairs.from_samples(named, HOT).pairs == built.pairs


def test_a_model_behind_an_api_answers_too(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-pairs-0123456789abcdef")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    wanted = {row.input: row.output for row in data.load(spec).train}
    turn = itertools.count()

    def said(question: str) -> str:
        return wanted[question] if next(turn) % 2 else "never"

    with Server(answers(said)).running() as server:
        base = f"base={{endpoint: {server.url}, model: served}}"
        task = specs.load(
            spec.path, [base, "prompt={}", "metric=exact_match", "ladder=[zero_shot]"]
        )
        built = pairs.from_samples(task, Drawing(rows=10))
    assert sum(built.questions.values()) == 10
    assert built.pairs
    assert {(p["chosen"], p["rejected"]) for p in built.pairs} <= {
        ("yes", "never"),
        ("no", "never"),
    }
    assert all(p["chosen"] == wanted[p["prompt"]] for p in built.pairs)


def test_fewer_rows_and_more_pairs_of_each(spec: Spec, built: Built) -> None:
    some = pairs.from_samples(spec, replace(HOT, rows=20))
    assert sum(some.questions.values()) == 20
    assert {json.dumps(pair) for pair in some.pairs} < {json.dumps(pair) for pair in built.pairs}


def test_a_trained_technique_answers_with_its_weights(folder: Path, spec: Spec) -> None:
    name = "lora(learning_rate=0.02)"
    warm = replace(HOT, temperature=2.0)
    tuned = pairs.from_samples(spec, replace(warm, run=folder / "run", technique=name))
    assert {pair["technique"] for pair in tuned.pairs} == {name}
    assert {pair["run"] for pair in tuned.pairs} == {"run"}
    assert tuned.questions != pairs.from_samples(spec, warm).questions
    best = pairs.from_samples(spec, replace(warm, run=folder / "run"))
    assert best.pairs == tuned.pairs
    with pytest.raises(UsageError, match=r"has no measured technique 'dora'.*one of lora"):
        pairs.from_samples(spec, Drawing(run=folder / "run", technique="dora"))


def test_rows_that_are_shown_are_not_asked(spec: Spec) -> None:
    shown = pairs.from_samples(spec, replace(HOT, technique="{few_shot: {k: 5}}"))
    assert sum(shown.questions.values()) == len(data.load(spec).train) - 5
    assert "5 rows are shown in the prompt and not asked" in shown.notes
    assert "note: 5 rows are shown in the prompt and not asked" in shown.lines()


def test_rows_that_ask_the_same_are_one_question_with_both_answers(
    spec: Spec, tmp_path: Path
) -> None:
    folder = tmp_path / "case"
    task = small_case.write_case(folder, Path(spec.base))  # type: ignore[arg-type]
    lines = (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])
    first["output"] = "no" if first["output"] == "yes" else "yes"
    (folder / "train.jsonl").write_text("\n".join([*lines, json.dumps(first)]), encoding="utf-8")
    found = pairs.from_samples(specs.load(task), HOT)
    assert sum(found.questions.values()) == len(lines)
    assert first["input"] not in {pair["prompt"] for pair in found.pairs}


def test_answers_that_are_cut_are_in_no_pair(spec: Spec) -> None:
    """A random base hardly ever ends its answer, so nearly every free text is cut."""
    free = specs.load(spec.path, ["prompt={}", "metric=token_f1"])
    with pytest.raises(DataError, match=r"no preference pair.*cut before they ended"):
        pairs.from_samples(free, Drawing(samples=2))


def test_when_all_samples_score_the_same_it_is_said(
    spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "scores_of", lambda frame, metric, texts, rows: [0.5] * len(texts))
    with pytest.raises(
        DataError, match=r"no preference pair.*questions: all answers scored the same"
    ):
        pairs.from_samples(spec, HOT)


def test_progress_is_told_and_may_stop_the_work(spec: Spec) -> None:
    heard: list[Step] = []
    pairs.from_samples(spec, HOT, heard.append)
    assert heard[0].phase == "load"
    assert (heard[-1].done, heard[-1].total) == (48.0, 48.0)
    assert heard[-1].finished == "48 rows answered"

    def stop(step: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pairs.from_samples(spec, Drawing(), stop)


def logs(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_logged_answers_to_one_question_are_paired(spec: Spec, tmp_path: Path) -> None:
    file = logs(
        tmp_path / "logs.jsonl",
        [
            {"prompt": "may i", "response": "yes sir", "rating": 5},
            {"prompt": "may i ?", "response": "no", "rating": 1},
            {"prompt": "must i", "response": "so", "rating": 3},
            {"prompt": "must i", "response": "not so", "rating": 3},
            {"prompt": "shall i", "response": "go", "rating": None},
            {"prompt": " ", "response": "go", "rating": 2},
        ],
    )
    built = pairs.from_logs(spec, file)
    (pair,) = built.pairs
    assert (pair["prompt"], pair["chosen"], pair["rejected"]) == ("may i", "yes sir", "no")
    assert (pair["chosen_line"], pair["rejected_line"], pair["logs"]) == (1, 2, "logs.jsonl")
    assert pair["metric"] == "rating"
    assert built.questions == {PAIRED: 1, EQUAL: 1}
    assert built.answers == {USED: 4, "without a score": 1, "without a question": 1}
    assert built.notes == ["logs.jsonl: read the columns 'prompt', 'response', 'rating'"]
    found = read_back(spec, built, tmp_path / "pairs.jsonl")
    assert found.fates[-1]["used_preferences"] == 1


def test_logs_without_scores_are_scored_by_the_metric_where_train_knows_the_answer(
    spec: Spec, tmp_path: Path
) -> None:
    free = specs.load(spec.path, ["prompt={}", "metric=token_f1"])
    row = data.load(free).train[0]
    said = [row.output, "well then"]
    asked = [row.input.upper(), row.input, "not a row", "not a row"]
    rows = [{"prompt": q, "response": a} for q, a in zip(asked, [*said, *said], strict=True)]
    built = pairs.from_logs(free, logs(tmp_path / "logs.jsonl", rows))
    (pair,) = built.pairs
    assert (pair["chosen"], pair["rejected"], pair["metric"]) == (*said, "token_f1")
    assert pair["chosen_score"] == TokenF1().score([row.output], [row.accepted], ())
    assert built.answers == {USED: 2, "without a score": 2}
    with pytest.raises(DataError, match=r"no column with scores, and none of its questions"):
        pairs.from_logs(free, logs(tmp_path / "logs.jsonl", rows[2:]))


def test_an_output_that_is_there_or_is_no_jsonl_is_refused(tmp_path: Path) -> None:
    (tmp_path / "there.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="is there already"):
        pairs.free(tmp_path / "there.jsonl")
    with pytest.raises(UsageError, match=r"should be named \.jsonl"):
        pairs.free(tmp_path / "pairs.csv")
    pairs.free(tmp_path / "new.jsonl")
