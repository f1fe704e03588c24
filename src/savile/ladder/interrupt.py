"""SIGINT and SIGTERM: the first drops the unit at work, the second ends the process at once.

Nothing is written at that moment: what is committed stays, what is not is done again by the next
run, so a signal, a second signal and `kill -9` all leave the same folder behind. The handler itself
says what will happen, for the step at work may take seconds to end.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from savile.errors import InterruptedRun, Problem

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Remembers that a signal came; `check` raises at a moment that is safe."""

    def __init__(self) -> None:
        self.came: signal.Signals | None = None

    def check(self) -> None:
        """Raise InterruptedRun once a signal has come."""
        if self.came is not None:
            raise InterruptedRun(
                Problem(
                    what=f"stopped by {self.came.name}; finished units are kept",
                    fix="The same command goes on from there",
                )
            )

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Remember the first signal, exit at the second, and say so."""
        if self.came is not None:
            _say("stopped at once; the same command goes on")
            os._exit(InterruptedRun.exit_code)
        self.came = signal.Signals(number)
        _say("stopping after this step; press again to stop at once")


def _say(text: str) -> None:
    """Write a line to stderr past its buffer, which a signal may have come in the middle of."""
    with suppress(OSError):
        os.write(2, f"\n{text}\n".encode())


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Take SIGINT and SIGTERM over while the block runs (in the main thread only)."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = {number: signal.signal(number, interrupt.handle) for number in SIGNALS}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
