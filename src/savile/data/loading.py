"""From a spec to sealed splits: read, recognize, check, split, look for leaks, count every row.

The order matters: whatever looks at test rows (labels, leaks, near duplicates, lengths) does so
here, before the test is sealed, and only numbers and places leave.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from savile.data import asked, judgments, preferences
from savile.data import labels as label_set
from savile.data import leaks as leak_check
from savile.data.dataset import Dataset, SealedTest
from savile.data.fit import fit
from savile.data.profile import profile
from savile.data.read import Reading, read_file
from savile.data.records import Ledger, Record, records_of
from savile.data.rows import Table
from savile.data.shapes import Shape, Wanted, recognize
from savile.data.split import Bands, assign, carve_bands, position
from savile.errors import DataError, Problem, UsageError
from savile.spec.data import DataSection
from savile.spec.model import Spec
from savile.types import Example

SPLITS = ("train", "dev", "test")
FEW = 30
"""Below this many rows of dev or test no interval is narrow enough to choose or claim anything."""


class _Built(NamedTuple):
    """Examples of one split, and how many rows each stands for."""

    examples: list[Example]
    rows: list[int]


def load(spec: Spec) -> Dataset:
    """Read, check and split the data of a spec.

    Raises:
        DataError: rows that cannot be used, leaks, labels outside the set.
        UsageError: too few rows for the split or for a few-shot prompt of the ladder.
    """
    data = spec.data
    ledger = Ledger()
    tables = _read(spec)
    notes = [note for table in tables.values() for note in table.notes]
    shape = _shape(next(iter(tables.values())), data, notes)
    records = {role: records_of(t, shape, data, ledger) for role, t in tables.items()}
    parts = _split(records, data, notes)
    leak_check.check_groups(parts)
    labels: tuple[str, ...] = ()
    warnings: list[str] = []
    if spec.prompt.labels:
        known = records.get("train") or records.get("file") or []
        closed = label_set.close(spec.prompt.labels, parts, known, data.normalize)
        labels, parts, warnings = closed.labels, closed.parts, closed.warnings
    parts = fit(parts, spec, ledger, warnings)
    given = preferences.read(spec, ledger)
    given = given._replace(parts=fit(given.parts, spec, ledger, warnings))
    leaks = leak_check.leaks({**parts, **given.parts})
    every = leak_check.settle(leaks, {**parts, **given.parts}, data, ledger)
    parts = {split: every[split] for split in SPLITS}
    parts["train"] = _dedup(parts["train"], data, ledger, warnings)
    judged = preferences.divide(spec, {**every, **parts}, ledger)
    learned = {one.source for split in ("train", "dev") for one in judged.parts[split]}
    pairs = [record for record in every.get("preferences", ()) if record.where in learned]
    near = leak_check.near(parts, pairs)
    warnings += filter(None, [leak_check.warn_near(near, data)])
    built = _build(parts, closed_set=bool(labels))
    built |= {s: _cap(built[s], parts[s], f"{s}_rows", spec, ledger) for s in ("dev", "test")}
    _enough(spec, {split: len(built[split].examples) for split in SPLITS})
    found = profile(parts, bool(labels), leaks, near)
    warnings += _advice(found, len(built["dev"].examples), len(built["test"].examples))
    warnings += asked.advice(spec, bool(labels), built["train"].examples)
    warnings += [*_some_rationales(built), *judged.warnings]
    n_judged = {role: len(every[role]) for role in given.parts}
    gives = _gives(spec, built["train"].examples, labels)
    dataset = Dataset(
        train=tuple(built["train"].examples),
        dev=tuple(built["dev"].examples),
        test=SealedTest(built["test"].examples),
        preferences=judged.parts["train"],
        dev_preferences=judged.parts["dev"],
        test_preferences=judged.parts["test"],
        labels=labels,
        gives=gives | judged.gives(spec.prompt.answer_marker),
        fates=(*judged.fates, *_fates(ledger, built, n_judged)),
        notes=(*notes, *judged.notes),
        warnings=tuple(warnings),
        hashes={table.name: table.sha256 for table in tables.values()} | dict(given.hashes),
        rejected=(*ledger.rejected, *ledger.unpaired),
        profile=found,
    )
    asked.check(spec, dataset)
    return dataset


def _read(spec: Spec) -> dict[str, Table]:
    data = spec.data
    reading = Reading(data.delimiter, data.encoding, data.max_line)
    files = {"train": data.train, "dev": data.dev, "test": data.test, "file": data.file}
    return {
        role: read_file(spec.folder / name, name, reading) for role, name in files.items() if name
    }


def _shape(table: Table, data: DataSection, notes: list[str]) -> Shape:
    """Return the shape of the rows, as asked for or recognized, and note what it leaves out."""
    wanted = Wanted(data.format, data.input, data.output, data.rationale)
    shape = judgments.shape(table, wanted) or recognize(table, wanted)
    notes += [f"{table.name}: {shape.said}", *_unused(table, shape, data)]
    return shape


def _unused(table: Table, shape: Shape, data: DataSection) -> list[str]:
    unused = [c for c in table.columns if c not in shape.columns and c not in (data.group_by, "id")]
    if not unused:
        return []
    text = f"columns that are not used: {', '.join(unused[:20])}"
    if data.strict:
        fix = "Remove them, or set data.strict: false"
        raise DataError(Problem(where=table.name, what=text, fix=fix))
    return [f"{table.name}: {text}", *_groups_hint(table, unused, data)]


def _groups_hint(table: Table, unused: Sequence[str], data: DataSection) -> list[str]:
    """Point at columns such as `customer_id` whose values repeat: rows may belong together."""
    if data.group_by:
        return []
    hints = []
    for column in unused:
        values = [str(row.cells.get(column)) for row in table.rows]
        repeats = len(values) / 50 < len(set(values)) < 0.9 * len(values)
        if repeats and column.lower().endswith(("id", "customer", "user", "document", "session")):
            hints.append(
                f"{table.name}: '{column}' looks like an id that repeats; if its rows belong "
                f"together, data.group_by: {column} keeps them in one split"
            )
    return hints


def _split(
    records: Mapping[str, list[Record]], data: DataSection, notes: list[str]
) -> dict[str, list[Record]]:
    """Return the records of every split; what is not given as a file is cut out by hash."""
    if "file" in records:
        shares = data.shares
        bands = Bands(test=shares.test, dev=shares.dev, dev_from=shares.test)
        source = records["file"]
    else:
        source = records.get("train", [])
        bands = carve_bands(len(source), dev="dev" not in records, test="test" not in records)
    chosen = assign([r.group if r.group is not None else r.key for r in source], bands)
    parts: dict[str, list[Record]] = {split: list(records.get(split, [])) for split in SPLITS}
    parts["train"] = [r for r, split in zip(source, chosen, strict=True) if split == "train"]
    for name in ("dev", "test"):
        cut = [r for r, split in zip(source, chosen, strict=True) if split == name]
        if cut:
            parts[name] = cut
            share = f"{len(cut)} of {len(source)} rows ({len(cut) / len(source):.1%})"
            notes.append(f"{name}: {share} of {source[0].file}, chosen by a hash of the input")
    return parts


def _dedup(
    train: list[Record], data: DataSection, ledger: Ledger, warnings: list[str]
) -> list[Record]:
    again = leak_check.repeated(train)
    if not again:
        return train
    if data.dedup:
        dropped = {(record.file, record.line) for record in again}
        for record in again:
            ledger.drop(record, "duplicate in train")
        return [record for record in train if (record.file, record.line) not in dropped]
    share = f"{len(again)} of {len(train)} train rows ({len(again) / len(train):.1%})"
    warnings.append(f"{share} repeat an earlier one; data.dedup: true drops them")
    return train


def _build(parts: Mapping[str, Sequence[Record]], *, closed_set: bool) -> dict[str, _Built]:
    """Make examples; in dev and test, free-text answers to one input become its references."""
    seen: Counter[tuple[str, str]] = Counter()
    built = {}
    for split in SPLITS:
        groups: dict[Any, list[Record]] = defaultdict(list)
        for index, record in enumerate(parts[split]):
            merged = split != "train" and not closed_set
            groups[record.input if merged else index].append(record)
        examples = [_example(group, seen) for group in groups.values()]
        built[split] = _Built(examples, [len(group) for group in groups.values()])
    return built


def _example(group: Sequence[Record], seen: Counter[tuple[str, str]]) -> Example:
    record = group[0]
    answers = tuple(dict.fromkeys(text for one in group for text in one.outputs))
    content = (record.input, answers[0])
    digest = hashlib.sha256()
    for piece in (*content, str(seen[content])):
        digest.update(f"{len(piece)}:{piece}".encode("utf-8", "surrogatepass"))
    seen[content] += 1
    return Example(
        id=digest.hexdigest()[:16],
        input=record.input,
        output=answers[0],
        rationale=record.rationale,
        references=answers if len(answers) > 1 else (),
        source=record.where,
    )


def _cap(
    built: _Built, parts: Sequence[Record], setting: str, spec: Spec, ledger: Ledger
) -> _Built:
    """Keep at most so many examples as a setting of the budget says, chosen by their ids' hash."""
    limit = getattr(spec.budget, setting)
    if limit is None or len(built.examples) <= limit:
        return built
    ranked = sorted(range(len(built.examples)), key=lambda i: position(built.examples[i].id))
    kept = sorted(ranked[:limit])
    by_source = {r.where: r for r in parts}
    for index in sorted(ranked[limit:]):
        for _ in range(built.rows[index]):
            ledger.drop(by_source[built.examples[index].source], f"beyond budget.{setting}")
    return _Built([built.examples[i] for i in kept], [built.rows[i] for i in kept])


def _enough(spec: Spec, counts: Mapping[str, int]) -> None:
    if spec.data.file or spec.data.train:
        no_train = bool(spec.data.file) and spec.data.shares.train == 0.0
        empty = [s for s in SPLITS if not counts[s] and not (s == "train" and no_train)]
        if empty:
            told = " + ".join(f"{counts[split]} {split}" for split in SPLITS)
            total = sum(counts.values())
            what = f"too few rows to split: {total} rows give {told}; {empty[0]} stays empty"
            fix = f"Give more rows, or data.{empty[0]}"
            raise UsageError(Problem(where="data", what=what, fix=fix))


def _gives(spec: Spec, train: Sequence[Example], labels: Sequence[str]) -> frozenset[str]:
    gives: set[str] = set()
    if train:
        gives.update(("pairs", "reward"))  # the metric rewards answers to rows
        if all(example.rationale for example in train):
            gives.add("rationales")
    if spec.prompt.system:
        gives.add("system")
    if labels:
        gives.add("labels")
    shapes = {"json_schema": spec.prompt.json_schema, "regex": spec.prompt.regex}
    gives.update(name for name, shape in shapes.items() if shape is not None)
    return frozenset(gives)


def _some_rationales(built: Mapping[str, _Built]) -> list[str]:
    train, dev = built["train"].examples, built["dev"].examples
    have, of_dev = (sum(e.rationale is not None for e in rows) for rows in (train, dev))
    if 0 < have < len(train):
        some = f"worked steps in {have} of {len(train)} train rows"
        return [f"{some}: techniques that need all cannot run"]
    if have and of_dev < len(dev):
        some = f"worked steps in {of_dev} of {len(dev)} dev rows"
        rest = "its dev loss counts these rows" if of_dev else "no dev loss helps to choose"
        return [f"{some}: what learns steps is judged by its dev score, and {rest}"]
    return []


def _fates(
    ledger: Ledger, built: Mapping[str, _Built], n_judged: Mapping[str, int]
) -> tuple[dict[str, Any], ...]:
    """Return the fate of all rows, having seen that none is missing or counted twice."""
    used = {f"used_{split}": sum(built[split].rows) for split in SPLITS}
    used |= {f"used_{role}": rows for role, rows in n_judged.items()}
    reasons = Counter(row.reason for row in ledger.rejected)
    n_in = sum(ledger.n_in.values())
    if n_in != sum(used.values()) + sum(reasons.values()):
        raise AssertionError(f"rows lost: {n_in} in, {used} used, {dict(reasons)} set aside")
    total: dict[str, Any] = {"stage": "data", "n_in": n_in, **used}
    total["quarantined"] = dict(sorted(reasons.items()))
    total["examples"] = {split: len(built[split].examples) for split in SPLITS}
    files = []
    for name, count in ledger.n_in.items():
        aside = Counter(row.reason for row in ledger.rejected if row.file == name)
        rest = {"used": count - sum(aside.values()), "quarantined": dict(sorted(aside.items()))}
        files.append({"stage": f"read {name}", "n_in": count, **rest})
    return (*files, total)


def _advice(found: Mapping[str, Any], n_dev: int, n_test: int) -> list[str]:
    warnings = []
    if n_dev < FEW:
        warnings.append(
            f"only {n_dev} dev rows: settings are chosen on {n_dev} rows; give {FEW} or more"
        )
    if n_test < FEW:
        warnings.append(
            f"only {n_test} test rows: every claim will be 'insufficient'; with 200 a difference "
            "of about 10 points can be told, with 1000 of about 4"
        )
    clash = found.get("conflicts")
    if clash and clash["groups"]:
        warnings.append(
            f"{clash['groups']} inputs have different labels in different rows "
            f"({clash['first'][0]}); no technique can exceed {clash['ceiling']:.1%} on test"
        )
    return warnings
