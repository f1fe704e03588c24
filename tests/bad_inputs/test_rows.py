"""Rows that cannot be used: D28 to D48 of the list of bad inputs, and rows of odd shapes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from savile import data
from savile import spec as task_spec
from savile.errors import SHOWN, SavileError
from tests.bad_inputs.material import (
    FREE,
    GOOD,
    ONE,
    ROW,
    TEN,
    Case,
    bad_train,
    check,
    jsonl,
    lines,
)

CASES = [
    Case(
        "D28-ids",
        3,
        ("train.jsonl:2", "id '7' is already the id of line 1"),
        {
            "train.jsonl": b"".join(
                json.dumps({"id": "7", **json.loads(line)}).encode() + b"\n"
                for line in lines("train")
            )
        },
    ),
    Case(
        "D29-label",
        3,
        ("train.jsonl:4", "'yess' is not in the label set", "1 row", "'yes'?"),
        bad_train(ROW % ("some thing", "yess")),
    ),
    Case(
        "D30-case",
        3,
        ("'YES' differs from 'yes'", "data.normalize: true"),
        bad_train(ROW % ("some thing", "YES")),
    ),
    Case(
        "D30-space-auto",
        3,
        ("'yes ' (1 rows) differs from 'yes'",),
        bad_train(ROW % ("some thing", "yes ")),
        overrides=("prompt.labels=auto",),
    ),
    Case(
        "D31-one-class",
        3,
        ("every row has the label 'no'",),
        {name: content.replace(b'"yes"', b'"no"') for name, content in GOOD.items()},
    ),
    Case(
        "D31-test-only-label",
        3,
        ("test.jsonl:4", "'perhaps' is not in the label set"),
        {"test.jsonl": jsonl("test", at=4, row=ROW % ("some thing", "perhaps"))},
        overrides=("prompt.labels=auto",),
    ),
    Case(
        "D33-leak",
        3,
        (
            "1 rows are in more than one split",
            "1 of train in test",
            "1 exact",
            "train.jsonl:4 = test.jsonl:9",
            "drop_train",
        ),
        {"train.jsonl": jsonl(at=4, row=lines("test")[8])},
    ),
    Case(
        "D33-leak-dev",
        3,
        ("1 of dev in test",),
        {"dev.jsonl": jsonl("dev", at=4, row=lines("test")[8])},
    ),
    Case(
        "D34-leak-folded",
        3,
        ("1 rows are in more than one split", "0 exact", "(folded)"),
        {"train.jsonl": jsonl(at=4, row=lines("test")[8].replace("says", "  SAYS!"))},
    ),
    Case(
        "D35-near-strict",
        3,
        ("nearly repeat a row", "more than 1 %"),
        {
            "train.jsonl": jsonl(at=4, row=ROW % (TEN, "no")),
            "test.jsonl": jsonl("test", at=5, row=ROW % (TEN + " and", "no")),
        },
        overrides=("data.strict=true",),
    ),
    Case(
        "D37-groups",
        3,
        ("data.group_by", "1 groups have rows in more than one split", "'g7'"),
        {
            f"{s}.jsonl": "\n".join(
                json.dumps(
                    {**json.loads(line), "doc": "g7" if i == 3 and s != "dev" else f"{s}{i}"}
                )
                for i, line in enumerate(lines(s))
            ).encode()
            + b"\n"
            for s in ("train", "dev", "test")
        },
        overrides=("data.group_by=doc",),
    ),
    Case(
        "D39-preferences",
        3,
        ("prefs.jsonl:1", "chosen equals rejected", "at most 1 %"),
        {"prefs.jsonl": b'{"prompt": "a", "chosen": "b", "rejected": "b"}\n'},
        overrides=("data.preferences=prefs.jsonl",),
    ),
    Case(
        "D39-held-out",
        3,
        ("held.jsonl:2", "'rejected' should be a text"),
        {
            "held.jsonl": b'{"prompt": "a", "chosen": "b", "rejected": "c"}\n'
            b'{"prompt": "d", "chosen": "e"}\n'
        },
        overrides=("data.preferences_test=held.jsonl",),
    ),
    Case(
        "D39-held-out-leak",
        3,
        ("1 of train in preferences_test", "train.jsonl:4 = held.jsonl:1 (folded)", "drop_train"),
        {
            **bad_train(ROW % ("Is it so?", "no")),
            "held.jsonl": b'{"prompt": "is it so", "chosen": "yes", "rejected": "no"}\n',
        },
        overrides=("data.preferences_test=held.jsonl",),
    ),
    Case(
        "D41-both-ways",
        3,
        ("prefs.jsonl", "no row has a question and a judged answer"),
        {
            "prefs.jsonl": b'{"prompt": "a", "chosen": "b", "rejected": "c"}\n'
            b'{"prompt": "A?", "chosen": "c", "rejected": "b"}\n'
        },
        overrides=("data.preferences=prefs.jsonl",),
    ),
    Case(
        "D48-few-shot",
        2,
        ("few_shot(k=64)", "64 demonstrations", "train has 40 rows"),
        overrides=("ladder=[{few_shot: {k: 64}}]",),
    ),
    Case("D48-split", 2, ("too few rows to split", "2 rows"), {"rows.jsonl": jsonl(n=2)}, ONE),
    Case(
        "columns-unclear",
        3,
        ("which column is the question", "a, b, c", "data.input"),
        {"train.jsonl": b'{"a": "x", "b": "y", "c": "z"}\n'},
    ),
    Case(
        "template-column",
        3,
        ("no column 'titel'", "did you mean 'title'?"),
        {"train.jsonl": b'{"title": "x", "label": "y"}\n'},
        overrides=('data.input="{titel}: x"',),
    ),
    Case(
        "chat-no-answer",
        3,
        ("last turn of 'messages' should be the assistant's",),
        {
            "train.jsonl": b'{"messages": [{"role": "system", "content": "a"}, '
            b'{"role": "user", "content": "b"}]}\n'
        },
        FREE,
    ),
    Case(
        "chat-image",
        3,
        ("not text (an image",),
        {
            "train.jsonl": b'{"messages": [{"role": "user", "content": [{"type": "image_url"}]}, '
            b'{"role": "assistant", "content": "b"}]}\n'
        },
        FREE,
    ),
    Case(
        "array-broken",
        3,
        ("train.json:2:14", "expected a comma"),
        {"train.json": b'[\n{"text": "a" "label": "no"}]'},
        overrides=("data.train=train.json",),
    ),
    Case(
        "array-truncated",
        3,
        ("train.json:2", "truncated?"),
        {"train.json": b'[{"text": "a", "label": "no"},\n{"text": "b", "lab'},
        overrides=("data.train=train.json",),
    ),
    Case(
        "json-object",
        3,
        ("expected an array of objects",),
        {"train.json": b'{\n "rows": []}'},
        overrides=("data.train=train.json",),
    ),
    Case(
        "encoding-unknown", 3, ("unknown encoding 'klingon'",), overrides=("data.encoding=klingon",)
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_said(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(case, tmp_path, monkeypatch)


def test_twenty_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"text": \n' * 500)
    (tmp_path / "task.yaml").write_text(ONE, encoding="utf-8")
    with pytest.raises(SavileError) as caught:
        data.load(task_spec.load(tmp_path / "task.yaml"))
    assert len(caught.value.problems) == SHOWN
    assert caught.value.total == 500


def test_terminal_control_codes_are_not_printed(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"text": "\x1b[31mred", "label": "no"}\n')
    (tmp_path / "task.yaml").write_text(ONE, encoding="utf-8")
    with pytest.raises(SavileError) as caught:
        data.load(task_spec.load(tmp_path / "task.yaml"))
    assert "\x1b" not in str(caught.value)
