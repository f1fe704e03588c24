"""Pairs of answers whose better one is known: wanted answers of bundled cases, and spoiled ones.

Each kind of spoiling leaves the question as it is and makes the answer worse for a reason that a
person would give: another total, an end that is missing, the same said again and again, another
brand's voice, the reply to another customer.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Final, NamedTuple

from savile.judge.question import Pair

CRITERIA: Final = {
    "brand_voice": "Which reply answers this customer, in the voice of savile harbor?",
    "refund_arithmetic": "Which answer works out the right total?",
}
"""What makes an answer the better one, by bundled case."""
OFF_BY: Final = 3
"""How far a wrong total is off."""
TIMES: Final = 3
"""How often a wordy answer says the same."""


class Row(NamedTuple):
    """One row of a case with its wanted answer, steps included."""

    question: str
    answer: str


class Made(NamedTuple):
    """A pair whose answer `a` is the better one, and how `b` was spoiled."""

    kind: str
    pair: Pair


def made(case: str, n: int) -> list[Made]:
    """Return every kind of pair of the first `n` test rows of a case."""
    rows = _rows(case)[: n + 1]
    return [
        Made(kind, Pair(row=f"{case}:{i}", question=row.question, a=row.answer, b=worse))
        for i, row in enumerate(rows[:n])
        for kind, worse in _spoiled(case, row, rows[i + 1])
    ]


def _rows(case: str) -> list[Row]:
    file = resources.files("savile") / "embedded" / "cases" / case / "test.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [
        Row(row["input"], f"{row['rationale']} answer {row['output']}")
        if "rationale" in row
        else Row(row["input"], row["output"])
        for row in rows
    ]


def _spoiled(case: str, row: Row, other: Row) -> list[tuple[str, str]]:
    words = row.answer.split()
    kinds = [
        ("cut", " ".join(words[: len(words) // 2])),
        ("wordy", " ".join([row.answer] * TIMES)),
        ("another row's", other.answer),
    ]
    if case == "brand_voice":
        voice = row.answer.replace("good morning", "hi").replace("fair winds", "hugs")
        return [*kinds, ("other voice", voice.replace("savile harbor", "help desk"))]
    *steps, total = words
    return [*kinds, ("wrong total", " ".join([*steps, str(int(total) + OFF_BY)]))]
