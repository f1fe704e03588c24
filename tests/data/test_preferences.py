"""Judged answers: every shape of the field, their splits, and what is set aside."""

import json
from pathlib import Path
from typing import Any

import pytest

from savile import data
from savile import spec as specs
from savile.data import Dataset
from savile.errors import DataError

ASK, GOOD, BAD = "how do i return it", "with pleasure , send it back", "no"
USER = {"role": "user", "content": ASK}
TASK = "task: voice\nprompt: {{instruction: reply}}\ndata: {data}\n"


def turn(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


SHAPES: dict[str, dict[str, Any]] = {
    "trl": {"prompt": ASK, "chosen": GOOD, "rejected": BAD},
    "trl-messages": {"prompt": [USER], "chosen": [turn(GOOD)], "rejected": [turn(BAD)]},
    "trl-implicit": {"chosen": [USER, turn(GOOD)], "rejected": [USER, turn(BAD)]},
    "dialogue": {
        "chosen": f"\n\nHuman: {ASK}\n\nAssistant: {GOOD}",
        "rejected": f"\n\nHuman: {ASK}\n\nAssistant: {BAD}",
    },
    "openai": {
        "input": {"messages": [USER]},
        "preferred_output": [turn(GOOD)],
        "non_preferred_output": [turn(BAD)],
    },
}


def vary(value: Any, number: int) -> Any:
    """Return the row with another question, so that rows differ."""
    return json.loads(json.dumps(value).replace(ASK, f"{ASK} {number}"))


def write(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def load(folder: Path, section: str) -> Dataset:
    task = folder / "task.yaml"
    task.write_text(TASK.format(data=section), encoding="utf-8")
    return data.load(specs.load(task))


def pairs(n: int, start: int = 0) -> list[Any]:
    return [vary(SHAPES["trl"], number) for number in range(start, start + n)]


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_rows_that_are_pairs_train_test_and_prefer(tmp_path: Path, name: str) -> None:
    write(tmp_path / "rows.jsonl", [vary(SHAPES[name], number) for number in range(60)])
    found = load(tmp_path, "{file: rows.jsonl}")
    counts = (len(found.train), len(found.dev), len(found.test))
    judged = (found.preferences, found.dev_preferences, found.test_preferences)
    assert counts == tuple(map(len, judged))
    assert sum(counts) == 60
    assert {"pairs", "preferences", "feedback"} <= found.gives
    assert all((p.chosen, p.rejected) == (GOOD, BAD) for p in found.preferences)
    assert {p.input for p in found.preferences} == {e.input for e in found.train}
    assert all(ASK in p.input for p in found.preferences)
    assert all(e.output == GOOD for e in found.train)


def test_a_file_of_its_own_follows_the_split_of_the_same_question(tmp_path: Path) -> None:
    rows = [{"input": f"{ASK} {n}", "output": GOOD} for n in range(40)]
    write(tmp_path / "train.jsonl", rows[:20])
    write(tmp_path / "test.jsonl", rows[20:])
    write(tmp_path / "prefs.jsonl", pairs(80, start=10))
    found = load(tmp_path, "{train: train.jsonl, test: test.jsonl, preferences: prefs.jsonl}")
    asked = {p.input for p in (*found.preferences, *found.dev_preferences)}
    sealed = {f"{ASK} {n}" for n in range(20, 40)}
    assert not asked & sealed
    assert sealed <= {p.input for p in found.test_preferences}
    judged = (found.preferences, found.dev_preferences, found.test_preferences)
    assert sum(map(len, judged)) == 80
    assert all(judged)
    assert found.fates[-1]["used_preferences"] == 80
    assert "preferences" in found.gives


def test_single_answers_with_a_label_are_feedback_and_no_pairs(tmp_path: Path) -> None:
    rows = [{"input": f"{ASK} {n}", "output": GOOD} for n in range(40)]
    write(tmp_path / "rows.jsonl", rows)
    judged = [
        {"prompt": f"may i {n}", "completion": f"so {n}", "label": n % 3 == 0} for n in range(60)
    ]
    write(tmp_path / "thumbs.jsonl", judged)
    found = load(tmp_path, "{file: rows.jsonl, preferences: thumbs.jsonl}")
    assert "feedback" in found.gives
    assert "preferences" not in found.gives
    for p in found.preferences:
        number = int(p.input.split()[-1])
        assert (p.chosen is not None) is (number % 3 == 0)
        assert (p.chosen or p.rejected) == f"so {number}"
        assert p.chosen is None or p.rejected is None


def test_equal_answers_are_set_aside_and_counted(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [{"input": f"{ASK} {n}", "output": GOOD} for n in range(40)])
    same = {"prompt": "x", "chosen": GOOD, "rejected": GOOD}
    write(tmp_path / "prefs.jsonl", [*pairs(150), same])
    found = load(tmp_path, "{file: rows.jsonl, preferences: prefs.jsonl}")
    assert [r.reason for r in found.rejected] == [f"chosen equals rejected ('{GOOD}')"]
    write(tmp_path / "prefs.jsonl", [*pairs(50), same])
    with pytest.raises(DataError, match=r"prefs.jsonl:51: chosen equals rejected.*1 of 51 rows"):
        load(tmp_path, "{file: rows.jsonl, preferences: prefs.jsonl}")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": {}, "chosen": GOOD, "rejected": BAD}, "'prompt' should be a text or a list"),
        ({"prompt": ASK, "chosen": GOOD, "rejected": None}, "'rejected' should be a text"),
        ({"prompt": ASK, "chosen": [USER], "rejected": BAD}, "one turn of the assistant"),
        ({"chosen": "one", "rejected": "two"}, "no common question before an 'Assistant:'"),
        ({"input": "x", "preferred_output": [], "non_preferred_output": []}, "with 'messages'"),
        ({"question": "x", "answer": "y"}, "no preference pairs in the columns"),
    ],
)
def test_bad_rows_are_said(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    write(tmp_path / "rows.jsonl", [{"input": f"{ASK} {n}", "output": GOOD} for n in range(40)])
    write(tmp_path / "prefs.jsonl", [row])
    with pytest.raises(DataError, match=words):
        load(tmp_path, "{file: rows.jsonl, preferences: prefs.jsonl}")
