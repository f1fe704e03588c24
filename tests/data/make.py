"""Small files and specs for the tests of the data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from savile import data
from savile import spec as task_spec


def write_rows(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    file.write_text(text, encoding="utf-8", newline="")


def numbered(n: int, start: int = 0) -> list[dict[str, str]]:
    """Return rows whose inputs share no pair of words and whose outputs are two labels."""
    return [
        {"text": f"a{i} b{i} c{i} d{i}", "label": "yes" if i % 2 else "no"}
        for i in range(start, start + n)
    ]


def dataset(folder: Path, section: str, *overrides: str, extra: str = "") -> data.Dataset:
    """Load the data of a spec whose `data` section is given."""
    path = folder / "task.yaml"
    path.write_text(f"task: t\ndata: {{{section}}}\n{extra}ladder: [zero_shot]\n", "utf-8")
    return data.load(task_spec.load(path, overrides))


LABELS = "prompt: {labels: [no, yes]}\n"


def word_tokenizer(folder: Path, context: int) -> None:
    """Write a base folder whose tokenizer gives one token a word."""
    folder.mkdir(exist_ok=True)
    nothing = ("truncation", "padding", "normalizer", "post_processor", "decoder")
    tokenizer = {
        "version": "1.0",
        **dict.fromkeys(nothing),
        "added_tokens": [],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": context}))
