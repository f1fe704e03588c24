"""Rows that occur in more than one split: a technique that memorizes would win by them.

An input is the same when it is equal after folding (case, spaces, punctuation, Unicode form). Such
rows of train and dev stop the run, or are dropped (`leak: drop_train`), or kept (`leak: allow`).
Near duplicates (word-pair Jaccard of 0.8 or more) are counted and warned about. In a simulation in
which a prompt is truly better, a 5 % leak puts a tuned model first in 22 % of cases, not 14 %.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from savile.data.records import Ledger, Record
from savile.data.split import position
from savile.data.text import near_duplicates
from savile.errors import DataError, Problem
from savile.spec.data import DataSection

PAIRS_SHOWN = 5
MOST_NEAR = 0.01
"""Share of test rows with a near duplicate in train above which the warning is loud."""
MOST_CHARACTERS = 8_000_000
"""Text in which near duplicates are looked for: some seconds."""
Parts = Mapping[str, Sequence[Record]]


class Leak(NamedTuple):
    """A row of one split whose question is also in another."""

    row: Record
    other: Record
    split: str
    other_split: str

    @property
    def exact(self) -> bool:
        """Whether the inputs are equal letter by letter."""
        return self.row.input == self.other.input


class Near(NamedTuple):
    """Test rows that are almost rows of train or dev, or judged questions that are learned from."""

    rows: int
    share: float
    """Of the test rows that were looked up."""
    looked_up: int
    """All test rows, or fewer when there is too much text to compare."""
    searched: int
    """Rows they were looked up in; all, or fewer likewise."""
    among: tuple[str, ...]
    """Whose rows these are: of the splits, and of judged answers."""
    pairs: tuple[tuple[str, str, float], ...]
    """The first few: test row, its near duplicate, similarity."""


def leaks(parts: Parts) -> list[Leak]:
    """Return the rows of train, dev and preferences that repeat a question held out from them.

    Judged answers follow the split of their question; only where some are held out in a file of
    their own (`preferences_test`) may the others not ask what these or the test rows ask.
    """
    sealed = _first(parts, "test", "preferences_test")
    found = _again(parts, "dev", sealed)
    found += _again(parts, "train", _first(parts, "dev") | sealed)
    if parts.get("preferences_test"):
        found += _again(parts, "preferences", sealed)
    return found


def _first(parts: Parts, *splits: str) -> dict[str, tuple[Record, str]]:
    """Return the first record of every question, with its split."""
    found: dict[str, tuple[Record, str]] = {}
    for split in splits:
        for record in parts.get(split, ()):
            found.setdefault(record.key, (record, split))
    return found


def _again(parts: Parts, split: str, held: Mapping[str, tuple[Record, str]]) -> list[Leak]:
    rows = (record for record in parts.get(split, ()) if record.key in held)
    return [Leak(record, held[record.key][0], split, held[record.key][1]) for record in rows]


def settle(
    found: Sequence[Leak], parts: Parts, data: DataSection, ledger: Ledger
) -> dict[str, list[Record]]:
    """Apply `data.leak` to the leaks: raise, drop the rows that are not held out, or keep them."""
    kept = {split: list(records) for split, records in parts.items()}
    if not found or data.leak == "allow":
        return kept
    if data.leak == "error":
        raise DataError(_problem(found))
    dropped = {(leak.split, leak.row.file, leak.row.line) for leak in found}
    for leak in found:
        ledger.drop(leak.row, f"leak: input is also in {leak.other_split}")
    return {
        split: [r for r in records if (split, r.file, r.line) not in dropped]
        for split, records in kept.items()
    }


def _problem(found: Sequence[Leak]) -> Problem:
    exact = sum(leak.exact for leak in found)
    by_pair = Counter((leak.split, leak.other_split) for leak in found)
    places = ", ".join(f"{n} of {split} in {other}" for (split, other), n in by_pair.items())
    lines = [
        f"  {leak.row.where} = {leak.other.where}" + ("" if leak.exact else " (folded)")
        for leak in found[:PAIRS_SHOWN]
    ]
    return Problem(
        where="data",
        what=f"{len(found)} rows are in more than one split ({places}; {exact} exact, "
        f"{len(found) - exact} but for case, spaces or punctuation)",
        fix="Set data.leak: drop_train to drop them from train, dev and preferences (what is held "
        "out stays whole), or data.leak: allow",
        context="\n".join(lines),
    )


def check_groups(parts: Parts) -> None:
    """Refuse groups (data.group_by) with rows in more than one split."""
    first: dict[str, tuple[str, Record]] = {}
    spanning = []
    for split, records in parts.items():
        for record in records:
            if record.group is None:
                continue
            other_split, other = first.setdefault(record.group, (split, record))
            if other_split != split:
                spanning.append((record, other))
    if spanning:
        record, other = spanning[0]
        what = (
            f"{len({r.group for r, _ in spanning})} groups have rows in more than one split, "
            f"first {record.group!r} ({other.where}, {record.where})"
        )
        fix = "Split by group, or give one data.file and let Savile split it"
        raise DataError(Problem(where="data.group_by", what=what, fix=fix))


def near(parts: Parts, judged: Sequence[Record] = ()) -> Near:
    """Count test rows that nearly repeat what is learned from or chosen by (equal ones are not
    counted).

    Args:
        parts: the records of every split.
        judged: those of judged answers that are not held out; each question counts once.
    """
    test = parts.get("test", ())
    learned = {split: parts.get(split, ()) for split in ("train", "dev")}
    asked = {record.key for records in learned.values() for record in records}
    further = {record.key: record for record in judged if record.key not in asked}
    learned["the judged answers"] = list(further.values())
    among = tuple(name for name, records in learned.items() if records)
    pool = [record for records in learned.values() for record in records]
    keys = asked | set(further)
    queries = _within([record for record in test if record.key not in keys])
    pool = _within(pool)
    found, looked_up = near_duplicates([r.input for r in queries], [r.input for r in pool])
    pairs = tuple((queries[q].where, pool[p].where, round(s, 3)) for q, p, s in found[:PAIRS_SHOWN])
    share = len(found) / max(1, looked_up)
    return Near(len(found), share, looked_up, len(pool), among, pairs)


def _within(records: list[Record]) -> list[Record]:
    """Return the records in hash order, cut where they exceed `MOST_CHARACTERS`."""
    records.sort(key=lambda record: position(record.key))
    total = 0
    for number, record in enumerate(records):
        total += len(record.input)
        if total > MOST_CHARACTERS:
            return records[:number]
    return records


def warn_near(one: Near, data: DataSection) -> str | None:
    """Return the warning about near duplicates, raise it under `data.strict`."""
    if not one.rows:
        return None
    of = f"{one.rows} of {one.looked_up} test rows ({one.share:.1%})"
    *first, last = one.among
    text = f"{of} nearly repeat a row of {' or '.join(filter(None, [', '.join(first), last]))}"
    shown = "; ".join(f"{a} ~ {b}" for a, b, _ in one.pairs)
    if one.share <= MOST_NEAR:
        return f"{text} ({shown})"
    text += ", more than 1 %: techniques that memorize may look better than they are"
    if data.strict:
        fix = "Remove them, or set data.strict: false"
        raise DataError(Problem(where="data", what=text, fix=fix, context="  " + shown))
    return f"{text} ({shown}). Remove them there; data.leak does not touch near duplicates"


def repeated(records: Sequence[Record]) -> list[Record]:
    """Return the records that repeat an earlier one, input and answer."""
    seen: set[tuple[str, tuple[str, ...]]] = set()
    again = []
    for record in records:
        content = (record.key, record.outputs)
        if content in seen:
            again.append(record)
        seen.add(content)
    return again


class Conflicts(NamedTuple):
    """Equal questions with different labels."""

    groups: int
    rows: int
    ceiling: float
    """Best possible accuracy on these rows: in each group only the most frequent label is right."""
    first: tuple[str, ...]


def conflicts(records: Sequence[Record]) -> Conflicts:
    """Return the conflicting labels among `records` and the accuracy they allow."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[record.key].append(record)
    clashing = [g for g in groups.values() if len({r.outputs[0] for r in g}) > 1]
    lost = sum(len(g) - max(Counter(r.outputs[0] for r in g).values()) for g in clashing)
    shown = tuple(
        " / ".join(f"{r.where} {r.outputs[0]!r}" for r in g[:2]) for g in clashing[:PAIRS_SHOWN]
    )
    rows = sum(map(len, clashing))
    return Conflicts(len(clashing), rows, 1.0 - lost / max(1, len(records)), shown)
