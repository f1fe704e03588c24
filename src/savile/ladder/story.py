"""What a run has done about one technique: its plan, its search, its trials, its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from savile.ladder.folder import Unit
from savile.ladder.plan import Cell
from savile.ladder.search import Found
from savile.types import Prediction

NOT_SEARCHED: Final = Found(learning_rate=None)


class Stopped(NamedTuple):
    """What is known of a technique that a race stopped before its whole budget."""

    reason: str
    dev_score: float


@dataclass(frozen=True, kw_only=True)
class Story:
    """Everything that was committed about one technique."""

    cell: Cell
    searched: Sequence[Mapping[str, Any]] = ()
    """Results of the search pieces."""
    trials: Sequence[Unit] = ()
    """One a seed."""
    measured: Sequence[Unit] = ()
    """One a seed, only of trials that worked."""
    settings: Mapping[str, Any]
    found: Found = NOT_SEARCHED
    """What the search came to."""
    short: Unit | None = None
    """A prompt's answers to the first dev rows."""
    start: Sequence[Prediction] = ()
    """Answers on dev after the short run, where there is a race."""
    stopped: Stopped | None = None
    """What the race said when it was over, of one that it stopped."""

    @property
    def results(self) -> list[Mapping[str, Any]]:
        """What every unit said."""
        units = [*self.trials, *self.measured]
        return [*self.searched, *(unit.result for unit in units)]

    @property
    def trouble(self) -> Mapping[str, Any] | None:
        """The first result that is not ok, None when everything worked."""
        results = [*(t.result for t in self.trials), *(m.result for m in self.measured)]
        pieces = list(self.searched) if not (self.trials or self.start) else []
        return next((r for r in [*results, *pieces] if r["status"] != "ok"), None)

    @property
    def left(self) -> bool:
        """Whether a seed is still to be trained."""
        able = self.cell.kind == "prompt" or self.found.learning_rate is not None
        return able and len(self.trials) < self.cell.seeds

    @property
    def complete(self) -> bool:
        """Whether every seed was trained and measured."""
        return self.trouble is None and len(self.measured) == self.cell.seeds > 0
