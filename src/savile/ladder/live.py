"""Progress of a run on stderr: a bar with the time left on a terminal, else a line per unit."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from savile.ladder.progress import Step

NAMES = {
    "load": "loading",
    "plan": "planning",
    "search": "searching",
    "train": "training",
    "predict": "answering",
    "judge": "judging",
    "done": "writing",
}


class LiveProgress:
    """Listens to a run and shows it; a context manager."""

    def __init__(self, console: Console, *, quiet: bool = False, verbose: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._lines = verbose or not console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def __call__(self, step: Step) -> None:
        """Show where the run is."""
        if self._quiet:
            return
        what = escape(f"{NAMES[step.phase]} {step.unit}")
        total = step.total if step.total > 1 else None
        self._bar.update(self._task, description=what, completed=step.done, total=total)
        if step.finished is not None and self._lines:
            share = step.done / step.total
            self._console.print(f"{share:4.0%}  {step.finished}", markup=False, highlight=False)
