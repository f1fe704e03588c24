"""What may still be paid: no request is sent that could take a run over its ceiling.

    sent when   paid + the most of all requests on their way + the most of this one <= ceiling

The most a request can cost is known before it is sent (`usage.py`); what it did cost replaces it
when the answer is there. Near the ceiling requests wait for each other, so that all of it can be
used and none is passed. Payments are recorded as they are made, so a run that goes on knows them; a
kill hides at most the requests on their way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, final

from savile.errors import InterruptedRun, Problem
from savile.lm.endpoint.failures import Stopped
from savile.lm.endpoint.patience import KEPT

TICK_SECONDS: Final = 0.2
Record = Callable[[Mapping[str, Any]], None]


def nobody(payment: Mapping[str, Any]) -> None:
    """Record nothing."""


@final
class Purse:
    """The money of one run; may be used from many threads."""

    def __init__(
        self, ceiling: float | None = None, *, paid: float = 0.0, record: Record = nobody
    ) -> None:
        """Open the purse.

        Args:
            ceiling: USD that may be paid; None: no limit.
            paid: USD that earlier sessions of the run paid.
            record: is given every payment as JSON values.
        """
        self.ceiling, self.paid = ceiling, paid
        self._record = record
        self._held: list[float] = []
        self._changed = threading.Condition()

    def hold(self, most: float, stopping: threading.Event) -> None:
        """Set aside the most that a request can cost; waits for others near the ceiling.

        Raises:
            InterruptedRun: what is left is less than that.
            Stopped: the run ends.
        """
        with self._changed:
            while not self._fits(sum(self._held) + most):
                if not self._fits(most):
                    raise self._empty(most)
                self._changed.wait(TICK_SECONDS)
                if stopping.is_set():
                    raise Stopped
            self._held.append(most)

    def pay(self, held: float, usd: float, facts: Mapping[str, Any]) -> None:
        """Replace what was set aside by what was paid, and record it."""
        with self._changed:
            self._held.remove(held)
            self.paid += usd
            self._changed.notify_all()
        if usd:
            self._record({"usd": usd, **facts})

    def _fits(self, more: float) -> bool:
        return self.ceiling is None or self.paid + more <= self.ceiling

    def _empty(self, most: float) -> InterruptedRun:
        return InterruptedRun(
            Problem(
                where="budget.usd",
                what=f"stopped before the ceiling of {self.ceiling:g} USD would be passed",
                found=f"{self.paid:.6g} USD paid; the next answer may cost {most:.2g} USD",
                fix=f"{KEPT} when it is raised (--set budget.usd=USD)",
            )
        )
