"""Logged answers: what was answered to a question, and how good it was held to be.

    question   prompt, question, query, input or messages       text, or a list of messages
    answer     response, completion, answer, output or generation
    score      score, rating, reward, label or metric           a number, or true and false

The first column of each kind that the file has is read, and said. A file without a score is read
too: then something else has to score its answers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from savile.data.judgments import answer_of, prompt_of
from savile.data.rows import Faults, Row, Table, shown
from savile.data.shapes import BadCell
from savile.errors import DataError, Problem

PROMPTS: Final = ("prompt", "question", "query", "input", "messages")
ANSWERS: Final = ("response", "completion", "answer", "output", "generation")
SCORES: Final = ("score", "rating", "reward", "label", "metric")
TRUTH: Final = {"true": 1.0, "false": 0.0}


class Logged(NamedTuple):
    """One logged answer."""

    input: str
    answer: str
    score: float | None
    """None where the file gives none."""
    line: int


class Logs(NamedTuple):
    """The answers of a file, and the columns they were read from."""

    answers: Sequence[Logged]
    columns: tuple[str, str, str | None]
    """Of questions, answers and scores; None without scores."""


def read_logs(table: Table) -> Logs:
    """Return the logged answers of a table.

    Raises:
        DataError: no column of questions or answers, or cells that are none.
    """
    question, answer = _column(table, "question", PROMPTS), _column(table, "answer", ANSWERS)
    score = next((name for name in SCORES if name in table.columns), None)
    faults, found = Faults(), []
    for row in table.rows:
        try:
            value = None if score is None else _score(row, score)
            text = "" if row.cells.get(answer) is None else answer_of(row.cells, answer)
            found.append(Logged(prompt_of(row.cells, question), text, value, row.line))
        except BadCell as error:
            where = f"{table.name}:{row.line}"
            faults.add(Problem(where=where, what=error.what, fix=error.fix))
    faults.raise_any()
    return Logs(found, (question, answer, score))


def _column(table: Table, kind: str, names: Sequence[str]) -> str:
    for name in names:
        if name in table.columns:
            return name
    what = f"no column with the {kind}; present: {', '.join(table.columns[:20])}"
    pairs = {"chosen", "rejected"} <= set(table.columns)
    raise DataError(
        Problem(
            where=table.name,
            what=what,
            expected=f"one of {', '.join(names)}",
            fix="These are pairs already: name the file in data.preferences" if pairs else "",
        )
    )


def _score(row: Row, column: str) -> float | None:
    """Return a score, None for an answer that nobody scored."""
    value: Any = row.cells.get(column)
    if isinstance(value, bool):
        return float(value)
    if value is None or value == "":
        return None
    found = TRUTH.get(value.strip().lower()) if isinstance(value, str) else None
    if found is None:
        try:
            found = float(value)
        except (TypeError, ValueError):
            found = math.nan
    if not math.isfinite(found):
        what = f"'{column}' should be a number, or true or false, found {shown(str(value))}"
        raise BadCell(what)
    return found
