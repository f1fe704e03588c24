"""One exception tree: what is wrong, what was found, where, and what to do; each kind with its
exit code.

SavileError                    1  (never raised itself)
├── UsageError                 2  spec, flags, resume with another identity
├── DataError                  3  rows that cannot be used
├── EnvironmentProblem         4  missing model, dependency, disk, memory, port
│   ├── NoMemory               4  more memory is needed than is free
│   ├── UnusableBase           4  the base can answer nothing: key, model, credit
│   └── DiskProblem            4  nothing more can be written
├── IntegrityError             5  checksum, pickle, remote code
├── NothingWorkedError         6  every technique failed; the partial board is kept
├── LockedError                7  a live process holds the run
└── InterruptedRun            75  stopped by a signal; run again to go on
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

SHOWN = 20
"""At most this many problems are shown; the total is always said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing that is wrong, for a person: `where: what; found …; fix`."""

    what: str
    where: str = ""
    """`file:line:column`, a spec key, or a path."""
    found: str = ""
    expected: str = ""
    fix: str = ""
    context: str = ""
    """A clipped source line with a caret under the place, printed below."""

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        for label, value in (("found", self.found), ("expected", self.expected)):
            if value:
                text += f"; {label} {value}"
        if self.fix:
            text += f" {self.fix}" if text.endswith((".", "?", "!")) else f". {self.fix}"
        return text + (f"\n{self.context}" if self.context else "")


class SavileError(Exception):
    """Base of every error a user may see. Carries one or more problems and an exit code."""

    exit_code: ClassVar[int] = 1

    def __init__(
        self, problems: Problem | str | Sequence[Problem], total: int | None = None
    ) -> None:
        if isinstance(problems, str):
            problems = Problem(what=problems)
        self.problems: tuple[Problem, ...] = (
            (problems,) if isinstance(problems, Problem) else tuple(problems)
        )
        self.total = len(self.problems) if total is None else total
        super().__init__("\n".join(str(problem) for problem in self.problems[:SHOWN]))


class UsageError(SavileError):
    """The spec, a flag, or a resume with another identity (exit code 2)."""

    exit_code = 2


class DataError(SavileError):
    """Rows that cannot be used (exit code 3)."""

    exit_code = 3


class EnvironmentProblem(SavileError):
    """A missing model or dependency, no disk, no memory, a port in use (exit code 4)."""

    exit_code = 4


class NoMemory(EnvironmentProblem):
    """More memory is needed than is free: a base is not loaded, a technique is not run (exit code
    4)."""


class UnusableBase(EnvironmentProblem):
    """The base can answer nothing at all (key, model, credit): the run ends, and no technique is
    to blame (exit code 4)."""


class DiskProblem(EnvironmentProblem):
    """The disk is full, read-only or failing: the run ends, and no technique is to blame; what is
    committed is kept and the same command goes on (exit code 4)."""


class IntegrityError(SavileError):
    """A wrong checksum, a pickle, remote code: nothing of it is used (exit code 5)."""

    exit_code = 5


class NothingWorkedError(SavileError):
    """Every technique failed; the partial board is kept (exit code 6)."""

    exit_code = 6


class LockedError(SavileError):
    """Another live process holds this run folder (exit code 7)."""

    exit_code = 7


class InterruptedRun(SavileError):
    """Stopped by a signal; what is committed is kept and the same command goes on (exit code
    75)."""

    exit_code = 75
