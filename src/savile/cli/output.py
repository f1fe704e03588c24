"""What commands print: text, one JSON document, the board; a closed stream is no error."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

import typer

ENDS_A_LINE: Final = (*range(0x09), *range(0x0A, 0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
"""What some reader takes for the end of a line, and what a terminal obeys; all but the tab."""
ON_ONE_LINE: Final = {
    c: chr(c).encode("unicode_escape").decode() for c in (*ENDS_A_LINE, ord("\\"))
}


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


def say_line(text: str) -> None:
    r"""Print a text on one line, from which it can be read back.

    Example: two lines, `a` and `b`, are `a\nb`; a backslash is two.
    """
    say(text.translate(ON_ONE_LINE))


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
