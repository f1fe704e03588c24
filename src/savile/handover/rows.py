"""A few rows by which an export is checked: the run's own dev rows, else questions of no task."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from savile import data, spec
from savile.errors import SavileError
from savile.ladder.folder import RunFolder, Unit
from savile.types import Example

ROWS: Final = 8
"""Rows that are compared: each is a prompt and an answer, so some hundred tokens."""
PROBES: Final = tuple(
    Example(id=f"probe{number}", input=text, output=answer)
    for number, (text, answer) in enumerate((("a b", "c"), ("1+1?", "2"), ("  indented\n", "x")))
)


class Rows(NamedTuple):
    """Rows to check by."""

    examples: tuple[Example, ...]
    of: str
    """Where they are from, in words."""
    answered: bool
    """Whether the run has answers to them."""


def rows_of(run: RunFolder, trial: Unit) -> Rows:
    """Return some dev rows of a trial, or probes where the run's data are not at hand any more."""
    known = {prediction.id for prediction in trial.predictions}
    try:
        dev = [row for row in _dataset(run).dev if row.id in known]
    except SavileError:
        dev = []
    if dev:
        return Rows(tuple(dev[:ROWS]), "dev rows", True)
    return Rows(PROBES, "questions of no task (the run's data are not at hand)", False)


def _dataset(run: RunFolder) -> data.Dataset:
    """Load the run's data again, from where its spec was."""
    read = spec.load(run.path / "spec.yaml")
    read._path = Path((run.manifest() or {})["base_folder"]) / read.path.name
    return data.load(read)
