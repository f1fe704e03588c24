"""A reward that is the user's own function, in the place of the metric.

    r(x, y) = function(input, answer, reference)

`input` is the row's question, `answer` what was parsed out of the written text (empty where nothing
was), `reference` the row's wanted answer. More is better; any number that float32 holds will do.

The file is the user's own code, named in the user's own spec: `savile run` runs it, with all the
rights of the user, as Python would. It is run once, before a base is loaded, from the very bytes
whose hash belongs to the run's identity; files beside it that it imports do not.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from types import ModuleType
from typing import Final

import torch

from savile.errors import Problem, UsageError
from savile.lm.model import LM
from savile.objectives.base import Encoded, Reward, Written
from savile.prompts.base import Frame
from savile.spec import Spec
from savile.spec.faults import clipped
from savile.spec.reward import faults, place_of
from savile.types import Example

LARGEST: Final = torch.finfo(torch.float32).max
"""Rewards are float32: what is larger would be infinite there."""


@dataclass(frozen=True, kw_only=True)
class RewardFunction:
    """A user's function that says what answers are worth."""

    name: str
    """As the spec writes it: `rewards.py:worth`."""
    sha256: str
    """Of its file."""
    call: Callable[[str, str, str], object]

    def __call__(self, row: Example, answer: str) -> float:
        """Return what an answer to a row is worth.

        Raises:
            UsageError: the function raises, or returns no finite number, or too large a one.
        """
        try:
            value = self.call(row.input, answer, row.output)
        except Exception as error:
            raise self._wrong(f"raised {_said(error)}", row, answer) from error
        number = _number(value)
        if not math.isfinite(number):
            raise self._wrong(f"returned {clipped(value)}, no finite number", row, answer)
        if abs(number) > LARGEST:
            raise self._wrong(f"returned {clipped(value)}, more than 32 bits hold", row, answer)
        return number

    def _wrong(self, what: str, row: Example, answer: str) -> UsageError:
        found = f"for the answer {clipped(answer)} to row {row.source or row.id}"
        return UsageError(
            Problem(
                where=self.name,
                what=what,
                found=found,
                fix="Return a finite number for every answer, the empty one too",
            )
        )


def function_of(spec: Spec) -> RewardFunction | None:
    """Run the file that the spec names as `reward` and return its function; None without one.

    Raises:
        UsageError: there is no such file or function, or the file cannot be run.
    """
    if spec.reward is None:
        return None
    if wrong := faults(spec.reward, spec.folder):
        raise UsageError(
            [Problem(where="reward", what=f.what, found=f.found, fix=f.fix) for f in wrong]
        )
    path, name = place_of(spec.reward, spec.folder)
    source = path.read_bytes()
    sha256 = hashlib.sha256(source).hexdigest()
    module = ModuleType(f"savile_reward_{sha256[:16]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and pickles of the file look there
    try:
        exec(compile(source, path, "exec"), module.__dict__)  # noqa: S102 - see the header
    except (Exception, SystemExit) as error:
        what = f"the file of 'reward' cannot be run: {_said(error)}"
        raise UsageError(Problem(where=str(path), what=what)) from error
    return RewardFunction(name=spec.reward, sha256=sha256, call=module.__dict__[name])


def by_function(
    lm: LM, frame: Frame, function: RewardFunction
) -> Callable[[Sequence[Encoded], Sequence[Example]], Reward]:
    """Return the maker of a reward from a user's function."""

    def make(rows: Sequence[Encoded], examples: Sequence[Example]) -> Reward:
        def reward(written: Sequence[Written]) -> list[float]:
            answers = [frame.parse(lm.template.decode(one.answer)) or "" for one in written]
            rows_of = (examples[one.row] for one in written)
            return [function(row, answer) for row, answer in zip(rows_of, answers, strict=True)]

        return reward

    return make


def _number(value: object) -> float:
    """Return a number as it is, infinity where it is too large, NaN for what is none."""
    try:
        return float(value) if isinstance(value, Real) else math.nan
    except OverflowError:
        return math.inf


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]
