"""Rows against the model's context: `data.too_long` says what happens to those that do not fit.

A row is measured as the shortest technique shows it: system text, instruction, question, answer
with its steps, and the template's tokens; judged answers likewise, by the longer one of a pair.
Rows with fewer bytes than the context has tokens fit without being tokenized. A row whose question
alone leaves no room for an answer is of use to no technique: it is set aside, named and counted,
unless questions are cut. An answer is never cut.
Nothing is done when the tokenizer is not on this machine; then the run itself refuses what does
not fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from savile.data.records import MOST_DROPPED, Ledger, Record
from savile.data.rows import Faults
from savile.data.tokens import OVERHEAD, Counter, counter
from savile.errors import Problem
from savile.spec.model import Spec

Parts = Mapping[str, Sequence[Record]]
ROWS_SHOWN = 5


def fit(parts: Parts, spec: Spec, ledger: Ledger, warnings: list[str]) -> dict[str, list[Record]]:
    """Return the records that fit the context, others dealt with as `data.too_long` says.

    Raises:
        DataError: a row does not fit and the policy is `error`, or more than 1 % would be set
            aside.
    """
    kept = {split: list(records) for split, records in parts.items()}
    found = counter(spec.base, spec.folder)
    if found is None or found.context is None:
        return kept
    head = "\n".join(filter(None, (spec.prompt.system, spec.prompt.instruction)))
    room = found.context - OVERHEAD - found.count(head)
    every = [record for records in kept.values() for record in records]
    long = {r.where: n for r in every if (n := _tokens(r, found, room)) > room}
    if not long:
        return kept
    if spec.data.too_long == "truncate_prompt_left":
        told = f"{len(long)} of {len(every)} rows"
        warnings.append(f"{told} lost the start of their question: they exceed the context")
        return {
            split: [_cut(r, found, room) if r.where in long else r for r in records]
            for split, records in kept.items()
        }
    alone = {r.where for r in every if r.where in long and found.count(r.input) >= room}
    aside = long if spec.data.too_long == "drop" else {w: n for w, n in long.items() if w in alone}
    refused = {where: n for where, n in long.items() if where not in aside}
    if len(aside) > MOST_DROPPED * len(every) and not spec.data.allow_drop:
        refused = long
    if refused:
        _refuse(refused, found, room, f"{len(refused)} of {len(every)} rows")
    for record in every:
        if (tokens := aside.get(record.where)) is not None:
            what = "question" if record.where in alone else "question and answer"
            detail = f"{tokens} tokens, room for {room}"
            ledger.drop(record, f"{what} longer than the context", detail)
    warnings.append(_told(aside, found, room, len(every)))
    return {split: [r for r in rows if r.where not in aside] for split, rows in kept.items()}


def _told(aside: Mapping[str, int], found: Counter, room: int, rows: int) -> str:
    first = ", ".join(f"{where}: {tokens}" for where, tokens in list(aside.items())[:ROWS_SHOWN])
    more = f", and {len(aside) - ROWS_SHOWN} more" if len(aside) > ROWS_SHOWN else ""
    return (
        f"{len(aside)} of {rows} rows are set aside: they do not fit the context of "
        f"'{found.source}', which has room for {room} tokens ({first}{more})"
    )


def _tokens(record: Record, found: Counter, room: int) -> int:
    """Return a row's tokens with the longer of two judged answers, or its bytes when these already
    fit (a token has at least a byte)."""
    asked = (record.input, record.rationale or "")
    answers = (*record.outputs[:1], record.rejected or "")
    n_bytes = sum(map(_bytes, asked)) + max(map(_bytes, answers))
    if n_bytes <= room:
        return n_bytes
    return sum(map(found.count, asked)) + max(map(found.count, answers))


def _bytes(text: str) -> int:
    return len(text.encode("utf-8")) + 1


def _cut(record: Record, found: Counter, room: int) -> Record:
    """Cut the question from the left, at a word, until the row fits."""
    words = record.input.split(" ")
    low, high = 0, len(words)
    while low < high:
        middle = (low + high) // 2
        shorter = record._replace(input=" ".join(words[middle:]))
        low, high = (low, middle) if _tokens(shorter, found, room) <= room else (middle + 1, high)
    if low >= len(words):
        what = "the answer alone is longer than the context; an answer is never cut"
        faults = Faults()
        faults.add(Problem(where=record.where, what=what, fix="Shorten it, or remove the row"))
        faults.raise_any()
    return record._replace(input=" ".join(words[low:]))


def _refuse(long: Mapping[str, int], found: Counter, room: int, told: str) -> None:
    faults = Faults()
    for where, tokens in long.items():
        faults.add(
            Problem(
                where=where,
                what=f"{tokens} tokens do not fit the context of '{found.source}' ({told})",
                found=f"room for {room} of {found.context}",
                fix="Set data.too_long to drop (with data.allow_drop above 1 %) or to "
                "truncate_prompt_left, or use a base with a longer context",
            )
        )
    faults.raise_any()
