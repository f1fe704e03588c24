"""The texts of the jobs: real data, because lengths and repetition decide what sharing costs.

Banking77 (Casanueva et al. 2020, CC-BY-4.0), E2E (Novikova et al. 2017, CC-BY-SA-4.0), GSM8K (Cobbe
et al. 2021, MIT), HH-RLHF (Bai et al. 2022, MIT). None of them is part of this repository and none
is ever replaced by generated text. They are looked for in `../shared/data` beside the checkout, or
in the folder that `--data` names.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
ANSWERED = "\n\nAssistant:"


class Text(NamedTuple):
    """One row: a question and its answer, or two of which the first is preferred."""

    question: str
    answer: str
    rejected: str | None = None


def banking77(path: Path) -> list[Text]:
    """Return messages with their intents."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        return [Text(row["text"].strip(), row["category"].replace("_", " ")) for row in rows]


def e2e(path: Path) -> list[Text]:
    """Return facts about restaurants with a sentence that states them."""
    with path.open(encoding="utf-8", newline="") as file:
        return [Text(row["mr"], row["ref"]) for row in csv.DictReader(file)]


def gsm8k(path: Path) -> list[Text]:
    """Return word problems with their worked answers."""
    with path.open(encoding="utf-8") as file:
        return [Text(row["question"], row["answer"]) for row in map(json.loads, file)]


def hh_rlhf(path: Path) -> list[Text]:
    """Return dialogues with a preferred and a rejected last turn, where both follow the same."""
    found = []
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            (dialogue, chosen), (other, rejected) = (
                row[name].rsplit(ANSWERED, 1) for name in ("chosen", "rejected")
            )
            if dialogue == other and chosen.strip() and rejected.strip():
                found.append(Text(dialogue.strip(), chosen.strip(), rejected.strip()))
    return found


class Source(NamedTuple):
    """Where a data set lies, and what reads it."""

    file: str
    read: Callable[[Path], list[Text]]


SOURCES = {
    "banking77": Source("banking77/train.csv", banking77),
    "e2e": Source("e2e/devset.csv", e2e),
    "gsm8k": Source("gsm8k/train.jsonl", gsm8k),
    "hh_rlhf": Source("hh-rlhf/preferences.jsonl.gz", hh_rlhf),
}


def read(name: str, folder: Path = DATA) -> list[Text]:
    """Return a data set, or exit with what is missing."""
    source = SOURCES[name]
    path = folder / source.file
    if not path.is_file():
        sys.exit(
            f"no data: {path} does not exist. Give --data FOLDER with {source.file} in it. "
            "Nothing is measured on made-up text."
        )
    return source.read(path)


def sample(texts: list[Text], n: int, seed: int) -> list[Text]:
    """Return `n` rows in a seeded random order."""
    return random.Random(seed).sample(texts, min(n, len(texts)))
