"""Judged answers of a task: read, cleared of what teaches nothing, kept out of each other's splits.

They come from `data.preferences`, or from the rows themselves when these are pairs (then the chosen
answer is the wanted one). Like all rows they are divided by the hash of the question; one that is
also a question of the rows follows it. `data.preferences_test` holds answers for the comparison at
the end: then nothing of `data.preferences` may ask what they or the test rows ask (`leaks.py`), and
it is divided into train and dev alone.

A pair of equal answers teaches nothing, and two pairs that judge the same answers either way teach
the opposite of each other: both kinds are set aside with their reason.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from savile.data.judgments import Judgment, recognize
from savile.data.read import Reading, read_file
from savile.data.records import Ledger, Record
from savile.data.rows import Faults, Row, Table
from savile.data.shapes import BadCell
from savile.data.split import Split, assign, carve_bands
from savile.data.text import fold
from savile.errors import DataError, Problem
from savile.spec.data import DataSection
from savile.spec.model import Spec
from savile.types import Preference

MOST_ASIDE = 0.01
"""Share of judged answers that teach nothing above which loading stops."""
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
ROLES = ("preferences", "preferences_test")
"""The keys of `data` that name files of judged answers."""
BOTH_WAYS = "judged both ways"


class Given(NamedTuple):
    """The judged answers of files of their own, not divided yet."""

    parts: Mapping[str, list[Record]]
    """By role; empty where the spec names no file."""
    hashes: Mapping[str, str]
    """sha256 of every file."""


class Found(NamedTuple):
    """The preferences of each split, and what to say about them."""

    parts: Mapping[Split, tuple[Preference, ...]]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    fates: tuple[Mapping[str, Any], ...] = ()
    """Where the pairs went that the task's own rows are."""

    def gives(self, answer_marker: str) -> frozenset[str]:
        """`preferences` when there are pairs, `feedback` when anything was judged; they are also
        `reasoned_` where every wanted answer holds the marker of an answer that follows steps.

        A technique whose answers are read after the marker would unlearn it from others.
        """
        train = self.parts["train"]
        pairs = any(row.chosen is not None and row.rejected is not None for row in train)
        found = ({"feedback"} if train else set()) | ({"preferences"} if pairs else set())
        wanted = [row.chosen.lower() for row in train if row.chosen is not None]
        if wanted and all(answer_marker.lower() in text for text in wanted):
            found |= {f"reasoned_{name}" for name in found}
        return frozenset(found)


def read(spec: Spec, ledger: Ledger) -> Given:
    """Return the judged answers of `data.preferences` and `data.preferences_test`.

    Args:
        spec: names the files.
        ledger: where rows that are set aside are counted.

    Raises:
        DataError: rows of no known shape, more than 1 % that teach nothing, or held-out answers
            without a pair.
    """
    data = spec.data
    reading = Reading(data.delimiter, data.encoding, data.max_line)
    parts: dict[str, list[Record]] = {}
    hashes: dict[str, str] = {}
    for role, name in zip(ROLES, (data.preferences, data.preferences_test), strict=True):
        if name is None:
            continue
        table = read_file(spec.folder / name, name, reading)
        parts[role] = _usable(table, data, ledger)
        hashes[table.name] = table.sha256
    held_out = parts.get("preferences_test")
    if held_out and not any(row.outputs and row.rejected is not None for row in held_out):
        what = "has no pair: what is held out is compared as chosen against rejected"
        fix = "Give rows with chosen and rejected, or leave data.preferences_test out"
        raise DataError(Problem(where=str(data.preferences_test), what=what, fix=fix))
    return Given(parts, hashes)


def divide(spec: Spec, parts: Mapping[str, Sequence[Record]], ledger: Ledger) -> Found:
    """Return the preferences of every split.

    Args:
        spec: says which files there are.
        parts: the records of every split and, by role, those of `read`; no leak is among them.
        ledger: where rows that are no pair are counted.
    """
    data = spec.data
    if data.preferences is None:
        found = _own(parts, ledger)
    else:
        found = _divided(data.preferences, parts, held_out=data.preferences_test is not None)
    if data.preferences_test is None:
        return found
    held_out = tuple(map(_preference, parts["preferences_test"]))
    note = f"{data.preferences_test}: {len(held_out)} preferences, held out for the comparison"
    if unused := len(found.parts["test"]):
        note += f"; those of the {unused} test rows that are pairs are not used"
    return found._replace(parts={**found.parts, "test": held_out}, notes=(*found.notes, note))


def _own(parts: Mapping[str, Sequence[Record]], ledger: Ledger) -> Found:
    """Return the pairs that the rows themselves are; equal or empty answers make no pair."""
    pairs = {s: [r for r in parts.get(s, ()) if r.rejected is not None] for s in SPLITS}
    both_ways = _both_ways([record for records in pairs.values() for record in records])
    found: dict[Split, tuple[Preference, ...]] = {}
    aside: Counter[str] = Counter()
    for split, records in pairs.items():
        kept = []
        for record in records:
            useless = _judgment(record).useless or (
                (BOTH_WAYS, "") if record in both_ways else None
            )
            if useless is None:
                kept.append(record)
            else:
                aside[useless[0]] += 1
                ledger.unpair(record, *useless)
        found[split] = tuple(map(_preference, kept))
    n_aside = aside.total()
    n_in = n_aside + sum(map(len, found.values()))
    if not n_in:
        return Found(found)
    stage = {"stage": "pairs of the rows", "n_in": n_in, "used": n_in - n_aside}
    told = ", ".join(f"{reason}: {count}" for reason, count in sorted(aside.items()))
    warning = (
        f"{n_aside} of {n_in} rows are no preference pair ({told}); they are rows all the same"
    )
    return Found(
        found,
        warnings=(warning,) if n_aside else (),
        fates=({**stage, "quarantined": dict(sorted(aside.items()))},),
    )


def _divided(name: str, parts: Mapping[str, Sequence[Record]], *, held_out: bool) -> Found:
    """Divide a file of judged answers."""
    rows = parts["preferences"]
    known: dict[str, Split] = {}
    for part in SPLITS[: 2 if held_out else 3]:  # test last: it wins
        known |= {record.key: part for record in parts.get(part, ())}
    keys = [row.key for row in rows]
    by_hash = assign(keys, carve_bands(len(rows), dev=True, test=not held_out))
    splits = [known.get(key, split) for key, split in zip(keys, by_hash, strict=True)]
    moved = sum(key in known for key in keys)
    notes = [f"{name}: {moved} of them follow the split of the same question in the rows"]
    if "dev" not in splits:
        by_hash = assign(keys, carve_bands(len(rows), dev=True, test=False))
        own = zip(splits, by_hash, strict=True)
        splits = [hashed if split == "train" else split for split, hashed in own]
        notes = [f"{name}: they ask train questions alone; a part of these chooses the settings"]
    found: dict[Split, tuple[Preference, ...]] = {
        part: tuple(_preference(r) for r, s in zip(rows, splits, strict=True) if s == part)
        for part in SPLITS
    }
    told = ", ".join(f"{len(own)} {part}" for part, own in found.items() if own)
    note = f"{name}: {len(rows)} preferences ({told}), split by a hash of the question"
    return Found(found, (note, *(notes if moved else ())))


def _usable(table: Table, data: DataSection, ledger: Ledger) -> list[Record]:
    """Return the judged answers of a table; rows that teach nothing are set aside."""
    extract = recognize(table)
    if extract is None:
        what = f"no preference pairs in the columns {', '.join(table.columns[:20])}"
        fix = "Give prompt, chosen and rejected, or prompt, completion and label"
        raise DataError(Problem(where=table.name, what=what, fix=fix))
    faults, found, aside = Faults(), [], []
    ledger.n_in[table.name] += len(table.rows)
    for row in table.rows:
        try:
            one = extract(row)
        except BadCell as error:
            where = f"{table.name}:{row.line}"
            faults.add(Problem(where=where, what=error.what, fix=error.fix))
            continue
        if (useless := one.useless) is None:
            found.append(_record(one, table.name, row.line))
        else:
            aside.append((row, *useless))
            ledger.reject(table.name, row.line, useless[0], row.cells, useless[1])
    faults.raise_any()
    if len(aside) > MOST_ASIDE * len(table.rows) and not data.allow_drop:
        _refuse(table, aside[0], len(aside))
    both_ways = _both_ways(found)
    for record in both_ways:
        ledger.drop(record, BOTH_WAYS)
    if len(found) == len(both_ways):
        raise DataError(Problem(where=table.name, what="no row has a question and a judged answer"))
    return [record for record in found if record not in both_ways]


def _refuse(table: Table, first: tuple[Row, str, str], n_aside: int) -> None:
    row, reason, detail = first
    share = f"{n_aside} of {len(table.rows)} rows ({n_aside / len(table.rows):.1%})"
    what = f"{reason}{f' ({detail})' if detail else ''}; {share} cannot be used, at most 1 % may"
    fix = "Take them out, or set data.allow_drop: true"
    raise DataError(Problem(where=f"{table.name}:{row.line}", what=what, fix=fix))


def _both_ways(rows: Sequence[Record]) -> dict[Record, None]:
    """Return the pairs whose two answers another pair judges the other way round, in order."""
    judged = {(row.key, row.outputs, (row.rejected,)) for row in rows}
    return dict.fromkeys(r for r in rows if (r.key, (r.rejected,), r.outputs) in judged)


def _record(one: Judgment, file: str, line: int) -> Record:
    outputs = () if one.chosen is None else (one.chosen,)
    return Record(one.input, outputs, None, None, file, line, fold(one.input), one.rejected)


def _judgment(record: Record) -> Judgment:
    return Judgment(record.input, record.outputs[0] if record.outputs else None, record.rejected)


def _preference(record: Record) -> Preference:
    one = _judgment(record)
    digest = hashlib.sha256()
    for piece in one:
        digest.update(f"{len(piece or '')}:{piece}".encode("utf-8", "surrogatepass"))
    return Preference(
        id=digest.hexdigest()[:16],
        input=one.input,
        chosen=one.chosen,
        rejected=one.rejected,
        source=record.where,
    )
