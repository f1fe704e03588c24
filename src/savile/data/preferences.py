"""Judged answers: which of two is better, or whether one is wanted, in the shapes of the field.

    TRL      {"prompt", "chosen", "rejected"}       texts or lists of messages
             {"chosen", "rejected"}                 whole dialogues: what both begin with asks
             {"prompt", "completion", "label"}      one answer and true or false (KTO)
    OpenAI   {"input": {"messages"}, "preferred_output", "non_preferred_output"}

A pair whose answers are equal teaches nothing and is set aside with its reason. Preferences come
from `data.preferences`, or from the rows themselves when they are pairs; then the chosen answer is
the wanted one. They keep out of each other's splits by the hash of the question, like all rows.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from savile.data.read import Reading, read_file
from savile.data.records import Ledger, Record
from savile.data.rows import Faults, Row, Table, shown
from savile.data.shapes import BadCell, Fields, Shape, Wanted, joined, turns_of
from savile.data.split import Split, assign, carve_bands
from savile.data.text import fold
from savile.errors import DataError, Problem
from savile.spec.data import DataSection
from savile.spec.model import Spec
from savile.types import Preference

MOST_ASIDE = 0.01
"""Share of pairs with equal answers above which loading stops."""
LAST_TURN = re.compile(r"\A(.*\n\s*(?:assistant|ai|bot|gpt|model)\s*:)", re.DOTALL | re.IGNORECASE)
"""The part of a common beginning up to the mark of the answer, in dialogues written as one text."""

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
PAIR_COLUMNS = ("prompt", "chosen", "rejected", "input", "preferred_output", "non_preferred_output")


class Found(NamedTuple):
    """The preferences of each split, and what to say about them."""

    parts: Mapping[Split, tuple[Preference, ...]]
    notes: tuple[str, ...] = ()
    hashes: Mapping[str, str] = {}
    rows: int = 0
    """Rows of a file of their own; 0 when the task's rows are the preferences."""

    @property
    def gives(self) -> frozenset[str]:
        """`preferences` when there are pairs, `feedback` when anything was judged."""
        train = self.parts["train"]
        pairs = any(row.chosen is not None and row.rejected is not None for row in train)
        return frozenset({"feedback"} if train else ()) | ({"preferences"} if pairs else set())


class Judgement(NamedTuple):
    """What one row says; None where it says nothing."""

    input: str
    chosen: str | None
    rejected: str | None


Extract = Callable[[Row], Judgement]


def load_preferences(spec: Spec, parts: Mapping[str, Sequence[Record]], ledger: Ledger) -> Found:
    """Return the preferences of `data.preferences`, else those of the rows themselves.

    Args:
        spec: names the file.
        parts: the records of every split; their questions are kept out of other splits.
        ledger: where rows that are set aside are counted.

    Raises:
        DataError: rows of no known shape, or more than 1 % with equal answers.
    """
    if spec.data.preferences is None:
        own: dict[Split, tuple[Preference, ...]] = {
            split: _of_records(parts.get(split, ())) for split in SPLITS
        }
        return Found(own)
    name = spec.data.preferences
    data = spec.data
    table = read_file(
        spec.folder / name, name, Reading(data.delimiter, data.encoding, data.max_line)
    )
    extract = recognize(table)
    if extract is None:
        what = f"no preference pairs in the columns {', '.join(table.columns[:20])}"
        fix = "Give prompt, chosen and rejected, or prompt, completion and label"
        raise DataError(Problem(where=name, what=what, fix=fix))
    rows = _usable(table, extract, data, ledger)
    split, kept, moved = _splits(rows, parts)
    found: dict[Split, tuple[Preference, ...]] = {
        part: tuple(p for p, s in zip(kept, split, strict=True) if s == part) for part in SPLITS
    }
    told = ", ".join(f"{len(found[part])} {part}" for part in found)
    notes = [f"{name}: {len(kept)} preferences ({told}), split by a hash of the question"]
    if moved:
        notes.append(f"{name}: {moved} of them follow the split of the same question in the rows")
    return Found(found, tuple(notes), {table.name: table.sha256}, len(kept))


def shape(table: Table, wanted: Wanted) -> Shape | None:
    """Return the shape of rows that are preference pairs; None for other rows.

    The chosen answer is the wanted one, so the rows also train and test like any others.
    """
    extract = recognize(table)
    if wanted != Wanted() or extract is None or extract is _unpaired:
        return None

    def fields(row: Row) -> Fields:
        one = extract(row)
        rejected = None if one.rejected == one.chosen else one.rejected
        return Fields(one.input, (one.chosen,), rejected=rejected)

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


def _explicit(row: Row) -> Judgement:
    cells = row.cells
    return Judgement(_text(cells, "prompt"), _answer(cells, "chosen"), _answer(cells, "rejected"))


def _unpaired(row: Row) -> Judgement:
    given, answer = _text(row.cells, "prompt"), _answer(row.cells, "completion")
    wanted = bool(row.cells["label"])
    return Judgement(given, answer if wanted else None, None if wanted else answer)


def _openai(row: Row) -> Judgement:
    given = row.cells["input"]
    if not isinstance(given, Mapping) or "messages" not in given:
        raise BadCell("'input' should be an object with 'messages'")
    return Judgement(
        joined(turns_of(given["messages"], "messages", least=1)),
        _answer(row.cells, "preferred_output"),
        _answer(row.cells, "non_preferred_output"),
    )


def _implicit(row: Row) -> Judgement:
    """Two dialogues that begin alike: the common part asks, the rest answers."""
    chosen, rejected = row.cells.get("chosen"), row.cells.get("rejected")
    if isinstance(chosen, list) and isinstance(rejected, list):
        both = [turns_of(turns, "chosen") for turns in (chosen, rejected)]
        if both[0][:-1] != both[1][:-1]:
            raise BadCell("'chosen' and 'rejected' should differ in their last turn alone")
        return Judgement(joined(both[0][:-1]), both[0][-1][1], both[1][-1][1])
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
    return Judgement(mark[1].strip(), chosen[at:].strip(), rejected[at:].strip())


def _text(cells: Mapping[str, Any], column: str) -> str:
    value = cells.get(column)
    if isinstance(value, list):
        return joined(turns_of(value, column, least=1))
    if not isinstance(value, str):
        raise BadCell(f"'{column}' should be a text or a list of messages")
    return str(value)


def _answer(cells: Mapping[str, Any], column: str) -> str:
    value = cells.get(column)
    if isinstance(value, list):
        turns = turns_of(value, column, least=1)
        if len(turns) != 1 or turns[0][0] != "assistant":
            raise BadCell(f"'{column}' should be one turn of the assistant")
        return turns[0][1]
    if not isinstance(value, str):
        raise BadCell(f"'{column}' should be a text or a list of messages")
    return str(value)


def _usable(table: Table, extract: Extract, data: DataSection, ledger: Ledger) -> list[Preference]:
    """Return the preferences of a table; rows that teach nothing are set aside."""
    faults, found, aside = Faults(), [], []
    ledger.n_in[table.name] += len(table.rows)
    for row in table.rows:
        where = f"{table.name}:{row.line}"
        try:
            one = extract(row)
        except BadCell as error:
            faults.add(Problem(where=where, what=error.what, fix=error.fix))
            continue
        reason = _useless(one)
        if reason is None:
            found.append(_preference(one, where))
        else:
            aside.append((row, reason))
            ledger.reject(table.name, row.line, reason, row.cells)
    faults.raise_any()
    if len(aside) > MOST_ASIDE * len(table.rows) and not data.allow_drop:
        row, reason = aside[0]
        share = f"{len(aside)} of {len(table.rows)} rows ({len(aside) / len(table.rows):.1%})"
        what = f"{reason}; {share} cannot be used, at most 1 % may"
        fix = "Take them out, or set data.allow_drop: true"
        raise DataError(Problem(where=f"{table.name}:{row.line}", what=what, fix=fix))
    if not found:
        raise DataError(Problem(where=table.name, what="no row has a question and a judged answer"))
    return found


def _useless(one: Judgement) -> str | None:
    if not one.input.strip():
        return "empty prompt"
    if any(text is not None and not text.strip() for text in (one.chosen, one.rejected)):
        return "empty answer"
    if one.chosen is not None and one.chosen == one.rejected:
        return f"chosen equals rejected ({shown(one.chosen, 30)})"
    return None


def _preference(one: Judgement, source: str) -> Preference:
    digest = hashlib.sha256()
    for piece in one:
        digest.update(f"{len(piece or '')}:{piece}".encode("utf-8", "surrogatepass"))
    return Preference(
        id=digest.hexdigest()[:16],
        input=one.input,
        chosen=one.chosen,
        rejected=one.rejected,
        source=source,
    )


def _of_records(records: Sequence[Record]) -> tuple[Preference, ...]:
    return tuple(
        _preference(Judgement(r.input, r.outputs[0], r.rejected), r.where)
        for r in records
        if r.rejected is not None
    )


def _splits(
    rows: Sequence[Preference], parts: Mapping[str, Sequence[Record]]
) -> tuple[list[Split], Sequence[Preference], int]:
    """Return each preference's split: that of the same question in the rows, else by its hash."""
    known: dict[str, Split] = {}
    for part in SPLITS:  # test last: it wins
        known |= {record.key: part for record in parts.get(part, ())}
    keys = [fold(row.input) for row in rows]
    chosen = assign(keys, carve_bands(len(rows), dev=True, test=True))
    moved = sum(key in known for key in keys)
    return [known.get(k, s) for k, s in zip(keys, chosen, strict=True)], rows, moved
