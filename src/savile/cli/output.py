"""What commands print: text, one JSON document, the board; a closed stream is no error."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import typer


def say_board(document: dict[str, Any]) -> None:
    """Print the board for a terminal."""
    from rich.console import Console

    from savile.report import terminal

    if sys.stdout is not None:
        terminal.render(document, Console())


def say_json(document: Any) -> None:
    """Print one strict JSON document."""
    from savile.store import dump_json

    say(dump_json(document).decode("utf-8").rstrip("\n"))


def say(text: str) -> None:
    """Print a result."""
    if sys.stdout is not None:
        typer.echo(text)


def flush() -> None:
    """Write out what is buffered, while an error of it can still be told."""
    if sys.stdout is not None:
        sys.stdout.flush()


def complain(text: str) -> None:
    """Print an error."""
    quietly(lambda: typer.echo(text, err=True) if sys.stderr is not None else None)


def quietly(work: Callable[[], None]) -> None:
    """Do what may meet a closed pipe."""
    try:
        work()
    except (BrokenPipeError, ValueError):
        return
