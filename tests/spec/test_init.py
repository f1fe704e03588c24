"""`init`: the spec that is written is read, and the data it names are loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from savile import data
from savile import spec as task_spec
from savile.errors import UsageError
from savile.spec.init import cases, copy_case, write_spec


def rows(n: int = 60) -> list[tuple[str, str]]:
    return [(f"question number {i} about {i * 7}", ("no", "on", "010")[i % 3]) for i in range(n)]


def csv(pairs: list[tuple[str, str]]) -> str:
    return "text,label\n" + "".join(f"{a},{b}\n" for a, b in pairs)


def test_a_label_set_is_recognized(tmp_path: Path) -> None:
    (tmp_path / "tickets.csv").write_text(csv(rows()))
    path = write_spec(tmp_path / "tickets.csv")
    assert path == tmp_path / "task.yaml"
    first, *_ = path.read_text().splitlines()
    assert first == "# yaml-language-server: $schema=task.schema.json"
    assert json.loads((tmp_path / "task.schema.json").read_text())["title"] == "A Savile task"
    spec = task_spec.load(path)
    assert (spec.task, spec.metric_name) == ("tickets", "accuracy")
    assert spec.prompt.labels == ("010", "no", "on")
    assert len(data.load(spec).labels) == 3


def test_neighbours_called_train_and_test_are_used(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(csv(rows()))
    (tmp_path / "test.csv").write_text(csv([(f"other {a}", b) for a, b in rows(30)]))
    spec = task_spec.load(write_spec(tmp_path / "train.csv", tmp_path / "my spec.yaml"))
    assert (spec.data.train, spec.data.dev, spec.data.test) == ("train.csv", None, "test.csv")
    assert len(data.load(spec).test) == 30


@pytest.mark.parametrize(
    ("content", "metric", "shape"),
    [
        ('{{"question": "what is {0} + 1?", "answer": "add.\\n#### {0}"}}', "numeric", "steps"),
        (
            '{{"messages": [{{"role": "user", "content": "ask {0}"}}, '
            '{{"role": "assistant", "content": "a rather long answer that tells all of {0}"}}]}}',
            "rouge_l",
            "chat",
        ),
        ('{{"instruction": "do {0}", "input": "", "output": "so {0}"}}', "exact_match", "alpaca"),
    ],
)
def test_free_text(tmp_path: Path, content: str, metric: str, shape: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(content.format(i) for i in range(40)) + "\n")
    spec = task_spec.load(write_spec(file, tmp_path / "sub" / "task.yaml"))
    assert spec.prompt.labels is None
    assert (spec.metric_name, spec.data.format) == (metric, shape)
    assert len(data.load(spec).train) > 10


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(csv(rows()))
    (tmp_path / "task.yaml").write_text("mine")
    with pytest.raises(UsageError, match="not overwritten"):
        write_spec(tmp_path / "rows.csv")
    assert (tmp_path / "task.yaml").read_text() == "mine"


@pytest.mark.parametrize("column", ["a: b", "it's", 'say "x"', "naïve # column"])
def test_odd_column_names_survive(tmp_path: Path, column: str) -> None:
    objects = [json.dumps({column: a, "label": b}) for a, b in rows()]
    (tmp_path / "rows.jsonl").write_text("\n".join(objects), encoding="utf-8")
    spec = task_spec.load(write_spec(tmp_path / "rows.jsonl"))
    assert spec.data.input == column
    assert len(data.load(spec).train) > 10


@pytest.mark.parametrize("name", cases())
def test_bundled_cases_can_be_copied_and_loaded(tmp_path: Path, name: str) -> None:
    path = copy_case(name, tmp_path / name)
    dataset = data.load(task_spec.load(path))
    assert len(dataset.test) >= 30
    with pytest.raises(UsageError, match="not overwritten"):
        copy_case(name, tmp_path / name)


def test_an_unknown_case_lists_those_that_exist() -> None:
    with pytest.raises(UsageError, match="bundled case called 'nothing'"):
        copy_case("nothing")
