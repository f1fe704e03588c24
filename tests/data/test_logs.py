"""Logged answers: which columns are read, and what is no score."""

import json
from pathlib import Path
from typing import Any

import pytest

from savile.data.logs import Logs, read_logs
from savile.data.read import read_file
from savile.errors import DataError


def read(folder: Path, rows: list[dict[str, Any]] | str) -> Logs:
    if isinstance(rows, str):
        name, text = "logs.csv", rows
    else:
        name, text = "logs.jsonl", "".join(json.dumps(row) + "\n" for row in rows)
    (folder / name).write_text(text, encoding="utf-8")
    return read_logs(read_file(folder / name, name))


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"prompt": "q", "response": "a", "score": 1}, ("prompt", "response", "score")),
        ({"question": "q", "answer": "a", "rating": "1.0"}, ("question", "answer", "rating")),
        ({"input": "q", "output": "a", "label": True}, ("input", "output", "label")),
        ({"prompt": "q", "completion": "a", "id": 3}, ("prompt", "completion", None)),
        (
            {
                "messages": [{"role": "user", "content": "q"}],
                "completion": [{"role": "assistant", "content": "a"}],
                "metric": 1e0,
            },
            ("messages", "completion", "metric"),
        ),
    ],
)
def test_the_usual_columns_are_read(
    tmp_path: Path, row: dict[str, Any], columns: tuple[str, str, str | None]
) -> None:
    logs = read(tmp_path, [row, row])
    assert logs.columns == columns
    assert [(one.input, one.answer, one.line) for one in logs.answers] == [
        ("q", "a", 1),
        ("q", "a", 2),
    ]
    assert {one.score for one in logs.answers} == {1.0 if columns[2] else None}


def test_a_table_has_texts_for_scores_and_gaps_are_no_score(tmp_path: Path) -> None:
    logs = read(tmp_path, "prompt,response,rating\nq,a,4.5\nq,b,\nq,c,TRUE\nq,d,-1e1\n")
    assert [one.score for one in logs.answers] == [4.5, None, 1.0, -10.0]


def test_an_answer_that_failed_is_empty(tmp_path: Path) -> None:
    logs = read(tmp_path, [{"prompt": "q", "response": None, "score": 0}])
    assert logs.answers[0].answer == ""


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"text": "q", "response": "a", "score": 1}, "no column with the question; present: text"),
        ({"prompt": "q", "score": 1}, "no column with the answer; .*one of response, completion"),
        (
            {"prompt": "q", "chosen": "a", "rejected": "b"},
            "pairs already: name the file in data.pr",
        ),
        (
            {"prompt": "q", "response": "a", "score": "good"},
            "logs.jsonl:1: 'score' should be a num",
        ),
        ({"prompt": "q", "response": "a", "score": "nan"}, "true or false, found 'nan'"),
        ({"prompt": "q", "response": "a", "score": [1]}, "'score' should be a number"),
        ({"prompt": None, "response": "a", "score": 1}, "logs.jsonl:1: 'prompt' should be a text"),
        ({"prompt": "q", "response": {"a": 1}, "score": 1}, "'response' should be a text"),
    ],
)
def test_what_is_no_log_is_said(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read(tmp_path, [row])
