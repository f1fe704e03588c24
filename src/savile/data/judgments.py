"""What one row judges: of two answers which is better, or of one whether it is wanted.

    TRL      {"prompt", "chosen", "rejected"}       texts or lists of messages
             {"chosen", "rejected"}                 whole dialogues: what both begin with asks
             {"prompt", "completion", "label"}      one answer and true or false (KTO)
    OpenAI   {"input": {"messages"}, "preferred_output", "non_preferred_output"}

Columns beyond these are not read: a pair may carry where it is from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from savile.data.rows import Row, Table, shown
from savile.data.shapes import BadCell, Fields, Shape, Wanted, joined, turns_of

LAST_TURN = re.compile(r"\A(.*\n\s*(?:assistant|ai|bot|gpt|model)\s*:)", re.DOTALL | re.IGNORECASE)
"""The part of a common beginning up to the mark of the answer, in dialogues written as one text."""
PAIR_COLUMNS = ("prompt", "chosen", "rejected", "input", "preferred_output", "non_preferred_output")


class Judgment(NamedTuple):
    """What one row says; None where it says nothing."""

    input: str
    chosen: str | None
    rejected: str | None

    @property
    def useless(self) -> tuple[str, str] | None:
        """Why it teaches nothing, and what was found; None when it does."""
        if not self.input.strip():
            return "empty prompt", ""
        if any(text is not None and not text.strip() for text in (self.chosen, self.rejected)):
            return "empty answer", ""
        if self.chosen is not None and self.chosen == self.rejected:
            return "chosen equals rejected", shown(self.chosen, 30)
        return None


Extract = Callable[[Row], Judgment]


def shape(table: Table, wanted: Wanted) -> Shape | None:
    """Return the shape of rows that are preference pairs; None for other rows.

    The chosen answer is the wanted one, so the rows also train and test like any others.
    """
    extract = recognize(table)
    if wanted != Wanted() or extract is None or extract is _unpaired:
        return None

    def fields(row: Row) -> Fields:
        one = extract(row)
        return Fields(one.input, (one.chosen,), rejected=one.rejected)

    said = "recognized as preference pairs; the chosen answer is the wanted one"
    columns = [c for c in table.columns if c in PAIR_COLUMNS]
    return Shape(name="preferences", said=said, columns=tuple(columns), extract=fields)


def recognize(table: Table) -> Extract | None:
    """Return how to read a table's rows as preferences; None when they are none."""
    columns = set(table.columns)
    if {"chosen", "rejected"} <= columns:
        return _explicit if "prompt" in columns else _implicit
    if {"preferred_output", "non_preferred_output", "input"} <= columns:
        return _openai
    if {"prompt", "completion", "label"} <= columns and all(
        isinstance(row.cells.get("label"), bool) for row in table.rows
    ):
        return _unpaired
    return None


def _explicit(row: Row) -> Judgment:
    chosen, rejected = (answer_of(row.cells, side) for side in ("chosen", "rejected"))
    return Judgment(prompt_of(row.cells, "prompt"), chosen, rejected)


def _unpaired(row: Row) -> Judgment:
    given, answer = prompt_of(row.cells, "prompt"), answer_of(row.cells, "completion")
    wanted = bool(row.cells["label"])
    return Judgment(given, answer if wanted else None, None if wanted else answer)


def _openai(row: Row) -> Judgment:
    given = row.cells["input"]
    if not isinstance(given, Mapping) or "messages" not in given:
        raise BadCell("'input' should be an object with 'messages'")
    return Judgment(
        joined(turns_of(given["messages"], "messages", least=1)),
        answer_of(row.cells, "preferred_output"),
        answer_of(row.cells, "non_preferred_output"),
    )


def _implicit(row: Row) -> Judgment:
    """Two dialogues that begin alike: the common part asks, the rest answers."""
    chosen, rejected = row.cells.get("chosen"), row.cells.get("rejected")
    if isinstance(chosen, list) and isinstance(rejected, list):
        both = [turns_of(turns, "chosen") for turns in (chosen, rejected)]
        if both[0][:-1] != both[1][:-1]:
            raise BadCell("'chosen' and 'rejected' should differ in their last turn alone")
        return Judgment(joined(both[0][:-1]), both[0][-1][1], both[1][-1][1])
    if not isinstance(chosen, str) or not isinstance(rejected, str):
        raise BadCell("'chosen' and 'rejected' should both be texts or both lists of messages")
    same = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), None)
    begin = chosen[: min(len(chosen), len(rejected)) if same is None else same]
    mark = LAST_TURN.match(begin)
    if mark is None:
        raise BadCell(
            "'chosen' and 'rejected' have no common question before an 'Assistant:'",
            "Give a column 'prompt'",
        )
    at = len(mark[1])
    return Judgment(mark[1].strip(), chosen[at:].strip(), rejected[at:].strip())


def prompt_of(cells: Mapping[str, Any], column: str) -> str:
    """Return a question: a text, or the messages before an answer; raises BadCell."""
    value = cells.get(column)
    if isinstance(value, list):
        return joined(turns_of(value, column, least=1))
    if not isinstance(value, str):
        raise BadCell(f"'{column}' should be a text or a list of messages")
    return str(value)


def answer_of(cells: Mapping[str, Any], column: str) -> str:
    """Return an answer: a text, or one turn of the assistant; raises BadCell."""
    value = cells.get(column)
    if isinstance(value, list):
        turns = turns_of(value, column, least=1)
        if len(turns) != 1 or turns[0][0] != "assistant":
            raise BadCell(f"'{column}' should be one turn of the assistant")
        return turns[0][1]
    if not isinstance(value, str):
        raise BadCell(f"'{column}' should be a text or a list of messages")
    return str(value)
