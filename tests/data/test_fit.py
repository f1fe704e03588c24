"""Rows longer than the context: refused, dropped and counted, or cut at the question's start."""

from __future__ import annotations

from pathlib import Path

import pytest

from savile import data
from savile.errors import DataError
from tests.data.make import dataset, numbered, word_tokenizer, write_rows

WORDS = [f"word{i}" for i in range(60)]
LONG = {"text": " ".join(WORDS), "label": "no"}
"""The question alone is too long."""
TALKATIVE = {"text": " ".join(WORDS[:30]), "label": " ".join(WORDS[:20])}
"""The question fits, its answer with it does not."""
CONTEXT = 56
"""Room for 40 words beside the 16 tokens of a template."""


def load(folder: Path, *overrides: str, last: dict[str, str] = LONG) -> data.Dataset:
    word_tokenizer(folder / "base", CONTEXT)
    write_rows(folder / "train.jsonl", [*numbered(200), last])
    write_rows(folder / "dev.jsonl", numbered(5, start=1000))
    write_rows(folder / "test.jsonl", numbered(5, start=2000))
    files = "train: train.jsonl, dev: dev.jsonl, test: test.jsonl"
    return dataset(folder, files, "base=base", *overrides)


def test_a_row_without_room_for_its_answer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(tmp_path, last=TALKATIVE)
    assert "train.jsonl:201: 50 tokens do not fit" in str(caught.value)
    assert "room for 40 of 56" in str(caught.value)
    assert "1 of 211 rows" in str(caught.value)


def test_a_question_that_leaves_no_room_is_set_aside_and_named(tmp_path: Path) -> None:
    found = load(tmp_path)
    assert len(found.train) == 200
    assert found.fates[-1]["quarantined"] == {"question longer than the context": 1}
    (row,) = found.rejected
    assert row.told == (
        "train.jsonl:201: question longer than the context (61 tokens, room for 40)"
    )
    (warning,) = [w for w in found.warnings if "set aside" in w]
    assert warning.startswith("1 of 211 rows are set aside: they do not fit the context of 'base'")
    assert warning.endswith("room for 40 tokens (train.jsonl:201: 61)")


def test_many_questions_that_leave_no_room_are_refused(tmp_path: Path) -> None:
    word_tokenizer(tmp_path / "base", CONTEXT)
    long = [{**LONG, "text": f"{n} {LONG['text']}"} for n in range(3)]
    write_rows(tmp_path / "rows.jsonl", [*numbered(200), *long])
    with pytest.raises(DataError, match="3 of 203 rows"):
        dataset(tmp_path, "file: rows.jsonl", "base=base")
    found = dataset(tmp_path, "file: rows.jsonl", "base=base", "data.allow_drop=true")
    assert found.fates[-1]["quarantined"] == {"question longer than the context": 3}


def test_a_long_row_is_dropped_and_counted(tmp_path: Path) -> None:
    found = load(tmp_path, "data.too_long=drop", last=TALKATIVE)
    assert len(found.train) == 200
    reason = "question and answer longer than the context"
    assert found.fates[-1]["quarantined"] == {reason: 1}
    assert [row.detail for row in found.rejected] == ["50 tokens, room for 40"]


def test_a_long_question_is_cut_at_its_start(tmp_path: Path) -> None:
    found = load(tmp_path, "data.too_long=truncate_prompt_left")
    assert found.train[-1].input.split() == LONG["text"].split()[21:]
    assert any("lost the start of their question" in warning for warning in found.warnings)


def test_an_answer_is_never_cut(tmp_path: Path) -> None:
    long_answer = {"text": "short", "label": LONG["text"]}
    write_rows(tmp_path / "rows.jsonl", [*numbered(200), long_answer])
    word_tokenizer(tmp_path / "base", CONTEXT)
    with pytest.raises(DataError, match="an answer is never cut"):
        dataset(tmp_path, "file: rows.jsonl", "base=base", "data.too_long=truncate_prompt_left")


def test_too_many_long_rows_are_not_dropped_unasked(tmp_path: Path) -> None:
    word_tokenizer(tmp_path / "base", CONTEXT)
    rows = [{**row, "text": f"{row['text']} {LONG['text']}"} for row in numbered(9)]
    write_rows(tmp_path / "rows.jsonl", [*numbered(200, start=50), *rows])
    with pytest.raises(DataError, match="9 of 209 rows"):
        dataset(tmp_path, "file: rows.jsonl", "base=base", "data.too_long=drop")
    found = dataset(
        tmp_path, "file: rows.jsonl", "base=base", "data.too_long=drop", "data.allow_drop=true"
    )
    assert found.fates[-1]["quarantined"] == {"question longer than the context": 9}


@pytest.mark.parametrize("role", ["preferences", "preferences_test"])
def test_judged_answers_are_measured_by_the_longer_one(tmp_path: Path, role: str) -> None:
    long = {"prompt": "is it long", "chosen": "yes", "rejected": " ".join(WORDS)}
    asked = {"prompt": " ".join(WORDS), "chosen": "yes", "rejected": "no"}
    many = [{"prompt": f"is it {n}", "chosen": "yes", "rejected": "no"} for n in range(200)]
    write_rows(tmp_path / "pairs.jsonl", [*many, asked])
    section = f"data.{role}=pairs.jsonl"
    found = load(tmp_path, section, last={"text": "short", "label": "no"})
    assert found.rejected[0].told.startswith("pairs.jsonl:201: question longer than the context")
    kept = (found.preferences, found.dev_preferences, found.test_preferences)
    assert sum(map(len, kept)) == 200
    write_rows(tmp_path / "pairs.jsonl", [*many, long])
    with pytest.raises(DataError, match=r"pairs\.jsonl:201: 63 tokens do not fit"):
        load(tmp_path, section, last={"text": "short", "label": "no"})


def test_without_a_tokenizer_nothing_is_measured(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [*numbered(100), LONG])
    found = dataset(tmp_path, "file: rows.jsonl", "base=somewhere/else")
    assert found.fates[-1]["quarantined"] == {}
