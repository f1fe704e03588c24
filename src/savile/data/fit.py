"""Rows against the model's context: `data.too_long` says what happens to those that do not fit.

A row is measured as the shortest technique shows it: system text, instruction, question, answer
with its steps, and the template's tokens. Rows with fewer bytes than the context has tokens fit
without being tokenized. An answer is never cut. Nothing is done when the tokenizer is not on this
machine; then the run itself refuses what does not fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from savile.data.records import MOST_DROPPED, Ledger, Record
from savile.data.rows import Faults
from savile.data.tokens import OVERHEAD, Counter, counter
from savile.errors import Problem
from savile.spec.model import Spec

Parts = Mapping[str, Sequence[Record]]


def fit(parts: Parts, spec: Spec, ledger: Ledger, warnings: list[str]) -> dict[str, list[Record]]:
    """Return the records that fit the context, others dealt with as `data.too_long` says.

    Raises:
        DataError: a row does not fit and the policy is `error`, or more than 1 % would be dropped.
    """
    kept = {split: list(records) for split, records in parts.items()}
    found = counter(spec.base, spec.folder)
    if found is None or found.context is None:
        return kept
    head = "\n".join(filter(None, (spec.prompt.system, spec.prompt.instruction)))
    room = found.context - OVERHEAD - found.count(head)
    long = {r.where: n for rs in kept.values() for r in rs if (n := _tokens(r, found, room)) > room}
    if not long:
        return kept
    policy = spec.data.too_long
    rows = sum(map(len, kept.values()))
    told = f"{len(long)} of {rows} rows"
    too_many = policy == "drop" and len(long) > MOST_DROPPED * rows and not spec.data.allow_drop
    if policy == "error" or too_many:
        _refuse(long, found, room, told)
    for split, records in kept.items():
        if policy == "drop":
            for record in records:
                if record.where in long:
                    ledger.drop(record, "longer than the context")
            kept[split] = [record for record in records if record.where not in long]
        else:
            kept[split] = [_cut(r, found, room) if r.where in long else r for r in records]
    if policy == "truncate_prompt_left":
        warnings.append(f"{told} lost the start of their question: they exceed the context")
    return kept


def _tokens(record: Record, found: Counter, room: int) -> int:
    """Return a row's tokens, or its bytes when these already fit (a token has at least a byte)."""
    texts = (record.input, record.rationale or "", *record.outputs[:1])
    n_bytes = sum(len(text.encode("utf-8")) + 1 for text in texts)
    return n_bytes if n_bytes <= room else sum(found.count(text) for text in texts)


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
