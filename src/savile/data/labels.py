"""The closed set of answers: declared or taken from the file of train, and every row checked
against it.

What may be answered is part of the task: where dev and test are cut out of that file, `auto` takes
the names of labels, and nothing else, from their rows too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from savile.data.records import Record
from savile.data.rows import Faults, hint, shown
from savile.data.text import fold_label
from savile.errors import DataError, Problem

Parts = Mapping[str, Sequence[Record]]


class Closed(NamedTuple):
    """The label set, and the records with their labels as the set writes them."""

    labels: tuple[str, ...]
    parts: dict[str, list[Record]]
    warnings: list[str]


def close(
    wanted: Sequence[str] | Literal["auto"], parts: Parts, known: Sequence[Record], normalize: bool
) -> Closed:
    """Check every answer against the label set.

    Args:
        wanted: the declared labels, or `auto`.
        parts: records by split.
        known: the records that `auto` takes its labels from.
        normalize: whether differences of case, spaces and Unicode form are ironed out.

    Raises:
        DataError: a row with another label, labels that differ only in form, or a single class.
    """
    counts = Counter(record.outputs[0] for record in known)
    if wanted == "auto":
        if not known:
            what = "labels: auto needs train rows to take the labels from"
            raise DataError(Problem(where="prompt.labels", what=what, fix="List the labels"))
        labels = _canonical(counts, known, normalize)
    else:
        labels = tuple(wanted)
    by_fold = {fold_label(label): label for label in labels}
    faults = Faults()
    exact = set(labels)
    unknown = Counter(
        label for rs in parts.values() for r in rs for label in r.outputs if label not in exact
    )
    closed: dict[str, list[Record]] = {}
    for split, records in parts.items():
        closed[split] = []
        for record in records:
            outputs = []
            for label in record.outputs:
                meant = label if label in exact else by_fold.get(fold_label(label))
                if meant is None or (meant != label and not normalize):
                    faults.add(_wrong(record, label, meant, labels, unknown[label]))
                    continue
                outputs.append(meant)
            closed[split].append(record._replace(outputs=tuple(outputs)))
    faults.raise_any()
    _check_classes(closed)
    return Closed(labels, closed, _warnings(labels, closed))


def _canonical(counts: Counter[str], known: Sequence[Record], normalize: bool) -> tuple[str, ...]:
    """Return the labels that occur; two spellings of one are an error, or become the usual one."""
    spellings: dict[str, list[str]] = defaultdict(list)
    for label in counts:
        spellings[fold_label(label)].append(label)
    faults = Faults()
    chosen = []
    for variants in spellings.values():
        variants.sort(key=lambda label: (-counts[label], label))
        chosen.append(variants[0])
        for other in [] if normalize else variants[1:]:
            record = next(r for r in known if r.outputs[0] == other)
            what = (
                f"label {other!r} ({counts[other]} rows) differs from {variants[0]!r} "
                f"({counts[variants[0]]} rows) only by case, spaces or Unicode form"
            )
            fix = "Write them alike, or set data.normalize: true"
            faults.add(Problem(where=record.where, what=what, fix=fix))
    faults.raise_any()
    return tuple(sorted(chosen))


def _wrong(
    record: Record, label: str, meant: str | None, labels: Sequence[str], count: int
) -> Problem:
    rows = f"{count} row{'s' * (count != 1)}"
    if meant is not None:
        form = "only by case, spaces or Unicode form"
        what = f"label {label!r} differs from {meant!r} {form} ({rows})"
        fix = "Write them alike, or set data.normalize: true"
    else:
        near = hint(label, labels)
        what = f"label {shown(label)} is not in the label set ({rows}){near}"
        fix = "" if near else "Add it to prompt.labels, or correct the row"
    return Problem(where=record.where, what=what, fix=fix)


def _check_classes(parts: Parts) -> None:
    seen = {record.outputs[0] for records in parts.values() for record in records}
    if len(seen) == 1:
        what = f"every row has the label {next(iter(seen))!r}; nothing can be told apart"
        raise DataError(Problem(where="data", what=what, fix="Give rows of at least two classes"))


def _warnings(labels: Sequence[str], parts: Parts) -> list[str]:
    found = []
    if parts.get("train"):
        trained = {record.outputs[0] for record in parts["train"]}
        absent = [label for label in labels if label not in trained]
        if absent:
            names = ", ".join(map(repr, absent[:5])) + (", …" if len(absent) > 5 else "")
            found.append(f"{len(absent)} of {len(labels)} labels have no train row: {names}")
    return found
