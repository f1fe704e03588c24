"""Judges that cannot be asked, and pairs of people that cannot be used: found before anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from savile import cli
from savile import spec as task_spec
from savile.data.human_verdicts import load_human_verdicts
from savile.errors import DataError
from tests.bad_inputs.material import FREE, GOOD, Case, check

SCORED = FREE + "metric: token_f1\n"
PEOPLE = SCORED + "judge: {base: embedded, human_labels: people.jsonl}\n"
PAIR = {"input": "Q?", "answer_a": "one", "answer_b": "two", "label": "a"}


def spec(name: str, section: str, *words: str, above: str = SCORED) -> Case:
    return Case(name, 2, words, spec=f"{above}judge: {section}\n", fails_at="spec")


CASES = [
    spec("no-metric", "{base: embedded}", "task.yaml:7:8", "never", "'metric'", above=FREE),
    spec("no-base", "{rows: 5}", "task.yaml:8:8: missing key 'base'"),
    spec("name-alone", "embedded", "'judge' should be a section"),
    spec("unknown-key", "{base: embedded, criteria: x}", "did you mean 'criterion'?"),
    spec("opponent", "{base: embedded, against: zero_sht}", "8:34", "mean 'zero_shot'?"),
    spec("nobody", "{base: embedded, against: lora}", "reference, or one of zero_shot, few_shot"),
    spec(
        "several",
        "{base: embedded, against: few_shot}",
        "several techniques are called 'few_shot'",
        "one of few_shot(k=2), few_shot(k=4)",
        above=SCORED.replace("zero_shot", "{few_shot: {k: 2}}"),
    ),
    spec("no-rows", "{base: embedded, rows: 0}", "'rows' should be at least 1"),
    spec("no-criterion", "{base: embedded, criterion: ''}", "'criterion' should not be empty"),
    spec("labels-list", "{base: embedded, human_labels: [a]}", "'human_labels' should be text"),
    spec("key", "{base: {model: m, api_key: x}}", "a spec holds no key"),
    spec("address", "{base: {endpoint: here, model: m}}", "should start with http://"),
    spec("unpriced", "{base: {model: m}}\nbudget: {usd: 1}", "needs the prices of every endpoint"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_said(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    check(case, tmp_path, monkeypatch)


def line(**changes: Any) -> str:
    return json.dumps({**PAIR, **changes}) + "\n"


PEOPLES = [
    ("absent", None, ("people.jsonl: the file does not exist",)),
    ("empty", "", ("people.jsonl is empty",)),
    ("not-json", "{", ("people.jsonl:1",)),
    ("no-label", json.dumps({**PAIR, "label": None}) + "\n", ("people.jsonl:1", "a, b or tie")),
    ("other-label", line() + line(label="A wins"), ("people.jsonl:2", "'A wins'", "a, b or tie")),
    ("number", line(label=1), ("people.jsonl:1", "'1'", "a, b or tie")),
    ("no-answer", line(answer_b=""), ("people.jsonl:1", "'answer_b' should be a text")),
    ("list", line(answer_a=["x"]), ("people.jsonl:1", "'answer_a' should be a text")),
    ("no-question", line(input=None), ("people.jsonl:1", "'input' should be a text")),
    (
        "columns",
        json.dumps({"input": "Q?", "answer-a": "x", "answer_b": "y", "label": "a"}) + "\n",
        ("need a column 'answer_a', did you mean 'answer-a'?", "Give input, answer_a, answer_b"),
    ),
    ("all-at-once", line(label="x") + line(input=""), ("people.jsonl:1", "people.jsonl:2")),
]


@pytest.mark.parametrize(("name", "content", "said"), PEOPLES, ids=[name for name, *_ in PEOPLES])
def test_bad_pairs_of_people_are_said(
    name: str,
    content: str | None,
    said: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("people.jsonl").write_text(content, encoding="utf-8")
    Path("task.yaml").write_text(PEOPLE, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_human_verdicts(task_spec.load("task.yaml"))
    assert caught.value.exit_code == 3
    for words in said:
        assert words in str(caught.value)


def test_pairs_of_people_are_read_in_any_case_and_counted(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(PEOPLE, encoding="utf-8")
    (tmp_path / "people.jsonl").write_text(line() + line(label=" TIE ") + line(label="B"))
    found = load_human_verdicts(task_spec.load(tmp_path / "task.yaml"))
    assert [pair.label for pair in found.pairs] == ["a", "tie", "b"]
    assert len({pair.row for pair in found.pairs}) == 1
    assert found.notes == ("people.jsonl: 3 pairs that people judged (1 a, 1 b, 1 tie)",)
    assert list(found.hashes) == ["people.jsonl"]


@pytest.mark.parametrize(
    ("section", "code", "words"),
    [
        ("{base: nowhere/at/all}", 4, "the base 'nowhere/at/all' was not found"),
        ("{base: embedded, human_labels: people.jsonl}", 3, "people.jsonl: the file does not"),
        ("{base: embedded, against: p_tning}", 2, "judge.against: no technique of the ladder"),
    ],
)
def test_check_finds_it_before_a_run(
    section: str,
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in GOOD.items():
        Path(name).write_bytes(content)
    text = SCORED.replace("ladder: [zero_shot, {few_shot: {k: 4}}]\n", "")
    Path("task.yaml").write_text(f"{text}judge: {section}\n", encoding="utf-8")
    assert cli.main(["check", "task.yaml"]) == code
    assert words in capsys.readouterr().err
