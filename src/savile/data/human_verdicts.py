"""Pairs that people judged: what a judge's verdicts are held against.

    {"input": "...", "answer_a": "...", "answer_b": "...", "label": "a" | "b" | "tie"}

Any file format that rows may have. Nothing is learned from them, so they need no split.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from savile.data.read import Reading, read_file
from savile.data.rows import Faults, Row, hint, shown
from savile.errors import DataError, Problem
from savile.spec.model import Spec

COLUMNS: Final = ("input", "answer_a", "answer_b", "label")
SIDES: Final[dict[str, Literal["a", "b", "tie"]]] = {"a": "a", "b": "b", "tie": "tie"}


class HumanVerdict(NamedTuple):
    """One pair with the verdict of a person."""

    row: str
    """Identity of the question: pairs of one question vary together."""
    input: str
    a: str
    b: str
    label: Literal["a", "b", "tie"]


class HumanVerdicts(NamedTuple):
    """The file of `judge.human_labels`, empty without one."""

    pairs: tuple[HumanVerdict, ...] = ()
    notes: tuple[str, ...] = ()
    hashes: Mapping[str, str] = {}


def load_human_verdicts(spec: Spec) -> HumanVerdicts:
    """Return the pairs of `judge.human_labels`.

    Raises:
        DataError: naming file, row and column.
    """
    if spec.judge is None or spec.judge.human_labels is None:
        return HumanVerdicts()
    name, data = spec.judge.human_labels, spec.data
    reading = Reading(encoding=data.encoding, max_line=data.max_line)
    table = read_file(spec.folder / name, name, reading)
    if missing := [column for column in COLUMNS if column not in table.columns]:
        near = hint(missing[0], [name for name in table.columns if name not in COLUMNS])
        what = f"pairs that people judged need a column '{missing[0]}'{near}"
        fix = f"Give {', '.join(COLUMNS)} (judge.human_labels)"
        found = ", ".join(table.columns[:20])
        raise DataError(Problem(where=name, what=what, found=found, fix=fix))
    faults, pairs = Faults(), []
    for row in table.rows:
        found_pair = _pair(row, f"{name}:{row.line}", faults)
        pairs += [found_pair] if found_pair is not None else []
    faults.raise_any()
    counts = Counter[str](pair.label for pair in pairs)
    told = ", ".join(f"{counts[side]} {side}" for side in SIDES)
    notes = (*table.notes, f"{name}: {len(pairs)} pairs that people judged ({told})")
    return HumanVerdicts(tuple(pairs), notes, {table.name: table.sha256})


def _pair(row: Row, where: str, faults: Faults) -> HumanVerdict | None:
    before = faults.total
    texts = [_text(row.cells.get(column), column, where, faults) for column in COLUMNS[:3]]
    label = row.cells.get("label")
    side = SIDES.get(str(label).strip().casefold())
    if side is None:
        what = "'label' says which answer is better"
        faults.add(Problem(where=where, what=what, found=shown(str(label)), expected="a, b or tie"))
    if faults.total > before or side is None:
        return None
    question, a, b = texts
    digest = hashlib.sha256(question.encode("utf-8", "surrogatepass")).hexdigest()
    return HumanVerdict(digest[:16], question, a, b, side)


def _text(value: Any, column: str, where: str, faults: Faults) -> str:
    if isinstance(value, str) and value.strip():
        return str(value)
    what = f"'{column}' should be a text that is not empty"
    faults.add(Problem(where=where, what=what, found="" if value is None else shown(str(value))))
    return ""
