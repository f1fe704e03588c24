"""How long to wait before asking again, and when to give up.

    wait = max(what the server asks for, U(0, min(30 s, 0.5 s x 2^n)))          n failures before

A rate limit speaks for every request, so all of them wait for it. An endpoint that gives no answer
until `give_up_seconds` stops the run, which can go on later: an outage is no property of a
technique and must not become a row of the board.

Source: full jitter, Brooker 2015 ("Exponential Backoff And Jitter", AWS Architecture Blog);
Retry-After: RFC 9110, section 10.2.3.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, final

from savile.errors import InterruptedRun, Problem, UnusableBase
from savile.lm.endpoint.failures import Failure, Stopped

FIRST_SECONDS, MOST_SECONDS = 0.5, 30.0
KEPT: Final = "Finished units and answers are kept; the same command goes on from there"
Clock = Callable[[], float]


def backoff(failures: int, rng: random.Random) -> float:
    """Return the seconds to wait after `failures` failures before this one."""
    return rng.uniform(0.0, min(MOST_SECONDS, FIRST_SECONDS * 2.0 ** min(failures, 30)))


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the seconds a server asks to wait (`Retry-After-Ms`, `Retry-After`: seconds or a
    date), None when it says nothing readable."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        return seconds if 0.0 <= seconds < float("inf") else None
    try:
        then = parsedate_to_datetime(headers.get("retry-after", ""))
    except (TypeError, ValueError):
        return None
    now = now or datetime.now(UTC)
    return max(0.0, (then.replace(tzinfo=then.tzinfo or UTC) - now).total_seconds())


@final
class Patience:
    """Decides about waiting for all requests of one endpoint; may be used from many threads."""

    def __init__(self, where: str, give_up_seconds: float, clock: Clock = time.monotonic) -> None:
        """Wait at most `give_up_seconds` for one answer of the endpoint called `where`."""
        self.where, self.give_up_seconds, self.clock = where, give_up_seconds, clock
        self.stopping = threading.Event()
        """Set when the run ends: nobody waits any longer."""
        self.waited_seconds = 0.0
        self._rng = random.Random(0)  # spreads requests; no result depends on it
        self._lock = threading.Lock()
        self._not_before = 0.0

    def enter(self) -> None:
        """Wait until a rate limit that another request met is over.

        Raises:
            Stopped: the run ends.
        """
        self._sleep(self._not_before - self.clock())

    def after(self, failure: Failure, failures: int, started: float) -> None:
        """Wait before the next attempt.

        Args:
            failure: the last one.
            failures: how many there were before.
            started: when the first attempt was made, on `clock`.

        Raises:
            InterruptedRun: there is no time left for this answer.
            UnusableBase: such a failure does not pass.
            Stopped: the run ends.
        """
        if failure.tries is not None and failures + 1 >= failure.tries:
            what = f"the endpoint's answers cannot be used ({failures + 1} attempts)"
            raise UnusableBase(Problem(where=self.where, what=what, found=failure.what))
        with self._lock:
            seconds = max(failure.after or 0.0, backoff(failures, self._rng))
        left = self.give_up_seconds - (self.clock() - started)
        if seconds >= left:
            raise self._given_up(failure, failures + 1)
        if failure.everyone:
            with self._lock:
                self._not_before = max(self._not_before, self.clock() + seconds)
        self._sleep(seconds)

    def _sleep(self, seconds: float) -> None:
        if seconds > 0.0:
            with self._lock:
                self.waited_seconds += seconds
            self.stopping.wait(seconds)
        if self.stopping.is_set():
            raise Stopped

    def _given_up(self, failure: Failure, attempts: int) -> InterruptedRun:
        asked = f"; it asks to wait {failure.after:g} seconds" if failure.after else ""
        limit = f"base.give_up_seconds is {self.give_up_seconds:g}"
        return InterruptedRun(
            Problem(
                where=self.where,
                what=f"the endpoint gives no answer ({attempts} attempts, {limit})",
                found=f"{failure.what}{asked}",
                fix=KEPT,
            )
        )
