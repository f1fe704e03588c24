"""Seconds of a run by phase; units that an earlier session committed count with what they took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

PHASES = ("data", "load", "search", "train", "predict")
"""Those of every run; others are there when a run has them."""


class Clock:
    """Adds up the seconds of a run."""

    def __init__(self, *, data: float) -> None:
        self.earlier = data
        """Seconds spent before this clock started: reading data, units of earlier sessions."""
        self._started = time.perf_counter()
        self._phases = dict.fromkeys(PHASES, 0.0)
        self._phases["data"] = data

    def add(self, phase: str, seconds: float) -> None:
        """Count seconds of one phase."""
        self._phases[phase] = self._phases.get(phase, 0.0) + seconds

    @contextmanager
    def of(self, phase: str) -> Iterator[None]:
        """Count the seconds of a block."""
        started = time.perf_counter()
        yield
        self.add(phase, time.perf_counter() - started)

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each phase, and the total with what lies between them."""
        total = self.earlier + time.perf_counter() - self._started
        return {**self._phases, "total": total}
