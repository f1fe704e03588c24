"""How far a run is: work done and work left over the whole run, one line per finished unit.

Work is counted in row passes: predicting a row is one, a training presentation is three (forward,
and a backward that costs about two forwards; Kaplan et al. 2020, arXiv 2001.08361, section 2.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Phase = Literal["load", "plan", "search", "train", "predict", "judge", "done"]
PASSES_TRAINED_ROW = 3.0


@dataclass(frozen=True, kw_only=True)
class Step:
    """Where a run is, told often."""

    phase: Phase
    unit: str
    """What is at work, for people: `lora, seed 1`."""
    done: float
    """Row passes done, committed ones of earlier sessions included."""
    total: float
    """Row passes of the whole run."""
    finished: str | None = None
    """Said once when a unit is committed: what came out of it."""


Listener = Callable[[Step], None]


def ignore(step: Step) -> None:
    """Listen to nothing."""


def told(result: Mapping[str, Any]) -> str:
    """Return what came out of a unit, for the line that says it is finished."""
    if result["status"] != "ok":
        return f"{result['status']}: {result['reason']}"
    seconds = f"{result['unit_seconds']:.1f} s"
    score = result.get("dev_score")
    return f"measured in {seconds}" if score is None else f"{score:.3f} on dev, {seconds}"


class Work:
    """The work of a run, told to a listener as it is done."""

    def __init__(self, total: float, listener: Listener) -> None:
        self.total = total
        self.done = 0.0
        self._listener = listener
        self._phase: Phase = "load"
        self._unit = ""

    def say(self, phase: Phase, unit: str) -> None:
        """Tell what is at work now."""
        self._phase, self._unit = phase, unit
        self._tell(0.0)

    def at(self, passes: float) -> None:
        """Tell how many row passes of the unit at work are done."""
        self._tell(passes)

    def finish(self, passes: float, line: str | None) -> None:
        """Count a unit as done; `line` None for one that an earlier session committed."""
        self.done = min(self.total, self.done + passes)
        self._tell(0.0, line)

    def _tell(self, passes: float, line: str | None = None) -> None:
        self._listener(
            Step(
                phase=self._phase,
                unit=self._unit,
                done=min(self.total, self.done + passes),
                total=self.total,
                finished=line,
            )
        )
