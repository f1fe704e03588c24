"""What the tables of bad inputs are made of: good files, one bad row, and the check."""

from __future__ import annotations

import gzip
import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from savile import data
from savile import spec as task_spec
from savile.errors import SHOWN, SavileError

SPEC = """\
task: tickets
data:
  train: train.jsonl
  dev: dev.jsonl
  test: test.jsonl
prompt:
  labels: [no, yes]
ladder: [zero_shot, {few_shot: {k: 4}}]
"""
CSV = SPEC.replace(".jsonl", ".csv")
FILES = "  train: train.jsonl\n  dev: dev.jsonl\n  test: test.jsonl\n"
ONE = SPEC.replace(FILES, "  file: rows.jsonl\n")
FREE = SPEC.replace("prompt:\n  labels: [no, yes]\n", "")
WORDS = ("amber", "birch", "cedar", "delta", "ember", "frost", "grove", "haven", "inlet", "jetty")
TEN = "one two three four five six seven eight nine ten"


def lines(split: str, n: int = 40) -> list[str]:
    """Rows whose texts differ in every word pair, half `yes` and half `no`."""
    rows = []
    for i in range(n):
        a, b = WORDS[i % 10], WORDS[(i * 7 + 3) % 10]
        text = f"{split}{i} {a}{i} says {b}{i} maybe {i}{split}"
        rows.append(json.dumps({"text": text, "label": "yes" if i % 2 else "no"}))
    return rows


def jsonl(split: str = "train", *, at: int | None = None, row: str = "", n: int = 40) -> bytes:
    """A good JSONL file, with `row` put in the place of line `at`."""
    rows = lines(split, n)
    if at is not None:
        rows[at - 1] = row
    return ("\n".join(rows) + "\n").encode()


def table(split: str, head: str = "text,label", delimiter: str = ",") -> bytes:
    rows = [json.loads(line) for line in lines(split)]
    body = [delimiter.join((row["text"], row["label"])) for row in rows]
    return ("\n".join([head, *body]) + "\n").encode()


def with_lines(content: bytes, at: int, *new: str) -> bytes:
    """Put new lines in the place of line `at`."""
    rows = content.decode().split("\n")
    return "\n".join([*rows[: at - 1], *new, *rows[at:]]).encode()


GOOD = {f"{split}.jsonl": jsonl(split) for split in ("train", "dev", "test")}
GOOD_CSV = {f"{split}.csv": table(split) for split in ("train", "dev", "test")}
ROW = '{"text": "%s", "label": "%s"}'


class Case(NamedTuple):
    """One bad input and what must be said."""

    name: str
    code: int
    words: tuple[str, ...]
    files: Mapping[str, bytes] = {}
    spec: str = SPEC
    overrides: tuple[str, ...] = ()
    prepare: Callable[[Path], object] | None = None
    fails_at: str = "data"


def bad_train(row: str, at: int = 4) -> dict[str, bytes]:
    return {"train.jsonl": jsonl(at=at, row=row)}


def fifo(folder: Path) -> None:
    (folder / "train.jsonl").unlink()
    os.mkfifo(folder / "train.jsonl")


def loop(folder: Path) -> None:
    (folder / "train.jsonl").unlink()
    (folder / "train.jsonl").symlink_to(folder / "train.jsonl")


def a_folder(folder: Path) -> None:
    (folder / "train.jsonl").unlink()
    (folder / "train.jsonl").mkdir()


def a_socket(folder: Path) -> None:
    (folder / "train.jsonl").unlink()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "train.jsonl"))


def bomb() -> bytes:
    return gzip.compress(b"a" * (8 << 20))


def attempt(case: Case, folder: Path) -> SavileError:
    """Write the case's files, read spec and data, and return what was raised."""
    for name, content in {**GOOD, **case.files}.items():
        (folder / name).write_bytes(content)
    (folder / "task.yaml").write_text(case.spec, encoding="utf-8")
    if case.prepare:
        case.prepare(folder)
    if case.fails_at == "spec":
        with pytest.raises(SavileError) as caught:
            task_spec.load("task.yaml", case.overrides)
        return caught.value
    spec = task_spec.load("task.yaml", case.overrides)
    with pytest.raises(SavileError) as caught:
        data.load(spec)
    return caught.value


def check(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Assert the exit code and the key words of what a case raises."""
    monkeypatch.chdir(folder)
    error = attempt(case, folder)
    message = str(error)
    assert error.exit_code == case.code
    for word in case.words:
        assert word in message
    assert len(message) < 20_000
    assert len(error.problems) <= max(SHOWN, error.total)
