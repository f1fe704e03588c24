"""The rows of a task: train and dev in the open, test sealed.

Selection code cannot receive the test rows: they come out of `SealedTest.open` alone, which counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

from savile.types import Example, Preference


@final
class SealedTest:
    """Test rows that can be counted and identified, and seen only by opening them."""

    __slots__ = ("__rows", "ids_hash", "openings", "reasons")

    def __init__(self, rows: Sequence[Example]) -> None:
        self.__rows = tuple(rows)
        ids = "\n".join(row.id for row in self.__rows)
        self.ids_hash = hashlib.sha256(ids.encode()).hexdigest()
        """sha256 of the ids in order: equal for equal test sets."""
        self.openings = 0
        self.reasons: list[str] = []

    def __len__(self) -> int:
        return len(self.__rows)

    def __repr__(self) -> str:
        return f"SealedTest({len(self)} rows, opened {self.openings} times)"

    def open(self, reason: str) -> tuple[Example, ...]:
        """Return the rows, counting this opening and why."""
        self.openings += 1
        self.reasons.append(reason)
        return self.__rows

    def lengths(self, count: Callable[[str], int]) -> tuple[int, ...]:
        """Return the length of every input and answer together: numbers, no rows."""
        return tuple(count(row.input) + count(row.output) for row in self.__rows)


class Rejected(NamedTuple):
    """A row that is not used."""

    file: str
    line: int
    reason: str
    sha256: str
    """Of the row's cells."""
    detail: str = ""
    """What was found: how many tokens."""

    @property
    def told(self) -> str:
        """The row and why, for people."""
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.file}:{self.line}: {self.reason}{detail}"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Everything a run may know of the data."""

    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: SealedTest
    preferences: tuple[Preference, ...] = ()
    """Judged answers to learn from."""
    dev_preferences: tuple[Preference, ...] = ()
    test_preferences: tuple[Preference, ...] = ()
    """Held out: the measured part looks at them when the test is opened."""
    labels: tuple[str, ...] = ()
    """The closed set of answers; empty for free text."""
    gives: frozenset[str] = frozenset()
    """`pairs`, `rationales`, `system`, `labels`: what techniques may need."""
    fates: tuple[Mapping[str, Any], ...] = ()
    """Where every row went: n_in = used_train + used_dev + used_test + quarantined."""
    notes: tuple[str, ...] = ()
    """What was guessed and what to know, for people."""
    warnings: tuple[str, ...] = ()
    """What may make the answer wrong."""
    hashes: Mapping[str, str] = field(default_factory=dict)
    """sha256 of every file."""
    rejected: tuple[Rejected, ...] = ()
    """Rows that are not used, and why."""
    profile: Mapping[str, Any] = field(default_factory=dict)
    """Counts and lengths of all splits, taken before the test was sealed."""
