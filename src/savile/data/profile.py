"""Numbers about the rows of every split: counts, lengths, balance, duplicates; no row leaves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from savile.data import leaks as leak_check
from savile.data.leaks import Leak, Near
from savile.data.records import SPECIAL, Record

LABELS_KEPT = 1000


def profile(
    parts: Mapping[str, Sequence[Record]], closed_set: bool, leaks: Sequence[Leak], near: Near
) -> dict[str, Any]:
    """Return JSON-able counts of all splits.

    Args:
        parts: the records of every split, as they will be used.
        closed_set: whether answers are labels.
        leaks: questions found in more than one split, before any were dropped.
        near: near duplicates of test rows.
    """
    found: dict[str, Any] = {
        "splits": {split: _lengths(records) for split, records in parts.items()},
        "leaks": {
            "rows": len(leaks),
            "exact": sum(leak.exact for leak in leaks),
            "pairs": [[leak.row.where, leak.other.where] for leak in leaks[:5]],
        },
        "near_duplicates": near._asdict(),
        "duplicates_in_train": len(leak_check.repeated(parts["train"])),
        "rows_with_special_marks": sum(
            any(mark in text for mark in SPECIAL for text in (r.input, *r.outputs))
            for records in parts.values()
            for r in records
        ),
    }
    if closed_set:
        every = [record for records in parts.values() for record in records]
        clash = leak_check.conflicts(every)
        on_test = leak_check.conflicts(parts["test"])
        found["conflicts"] = {**clash._asdict(), "ceiling": on_test.ceiling}
        found["labels"] = {split: _balance(records) for split, records in parts.items()}
    return found


def _lengths(records: Sequence[Record]) -> dict[str, Any]:
    inputs = sorted(len(r.input.split()) for r in records)
    outputs = sorted(len(r.outputs[0].split()) for r in records)
    characters = sorted(len(r.input) for r in records)
    return {
        "rows": len(records),
        "input_words": _spread(inputs),
        "input_characters": _spread(characters),
        "output_words": _spread(outputs),
    }


def _spread(values: Sequence[int]) -> dict[str, int]:
    """Return the median, the 95th percentile and the largest of sorted values."""
    if not values:
        return {"median": 0, "p95": 0, "max": 0}
    at = len(values) - 1
    return {"median": values[at // 2], "p95": values[int(at * 0.95)], "max": values[-1]}


def _balance(records: Sequence[Record]) -> dict[str, Any]:
    counts = Counter(record.outputs[0] for record in records)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    share = ordered[0][1] / len(records) if records else 0.0
    return {
        "counts": dict(ordered[:LABELS_KEPT]),
        "majority": ordered[0][0] if ordered else None,
        "majority_share": share,
        "smallest": ordered[-1][1] if ordered else 0,
    }
