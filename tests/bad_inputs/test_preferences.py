"""Logs and flags that `savile preferences` cannot use: one sentence, and nothing is written."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from savile import cli
from tests import small_case


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("case")
    return small_case.write_case(folder, small_case.write_base(folder / "base"))


LOGS = {
    "no-question": (
        "text,response,score\nq,a,1\n",
        3,
        "no column with the question; present: text",
    ),
    "no-answer": ("prompt,score\nq,1\n", 3, "no column with the answer; present: prompt, score"),
    "no-metric": ("prompt,response\nq,a\nq,b\n", 3, "no column with scores, and none of its"),
    "all-equal": ("prompt,response,score\nq,a,1\nq,b,1\n", 3, "1 questions: all answers scored"),
    "one-answer": ("prompt,response,score\nq,a,1\nr,b,2\n", 3, "2 questions: fewer than two"),
    "bad-score": ("prompt,response,score\nq,a,good\n", 3, "logs.csv:2: 'score' should be a num"),
    "no-rows": ("prompt,response,score\n", 3, "is empty (0 rows)"),
    "fields": ("prompt,response,score\nq,a,1,2\n", 3, "logs.csv:2: 4 fields, header has 3"),
}


@pytest.mark.parametrize("name", sorted(LOGS))
def test_bad_logs_end_in_a_sentence_and_write_nothing(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    text, code, words = LOGS[name]
    logs, out = tmp_path / "logs.csv", tmp_path / "pairs.jsonl"
    logs.write_text(text, encoding="utf-8")
    assert cli.main(["preferences", str(task), "-o", str(out), "--from-logs", str(logs)]) == code
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert words in said
    assert not out.exists()


FLAGS: dict[str, tuple[Sequence[str], int, str]] = {
    "trained": (["--technique", "lora"], 2, "'lora' has to be trained before it answers"),
    "unknown": (["--technique", "few_sot"], 2, "did you mean 'few_shot'"),
    "no-run": (["--run", "nowhere"], 2, "nowhere: holds no finished run"),
    "both": (["--from-logs", "x", "--technique", "zero_shot"], 2, "no technique answers"),
    "no-logs": (["--from-logs", "nowhere.csv"], 3, "nowhere.csv"),
    "samples": (["--samples", "1"], 2, "samples: is out of range; found 1; expected at least 2"),
    "cold": (["--temperature", "0"], 2, "temperature: is out of range"),
    "top-p": (["--top-p", "1.01"], 2, "top_p: is out of range"),
    "number": (["--samples", "many"], 2, "'--samples': Input should be a valid integer"),
    "spec": (["--set", "seeed=1"], 2, "did you mean 'seed'"),
}


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_bad_flags_end_in_a_sentence_and_write_nothing(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    flags, code, words = FLAGS[name]
    out = tmp_path / "pairs.jsonl"
    assert cli.main(["preferences", str(task), "-o", str(out), *flags]) == code
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert words in said
    assert not out.exists()
