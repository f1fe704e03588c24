"""The process's edge: every error becomes a sentence and an exit code, and no traceback is shown.

The exit codes are those of `savile.errors`; `--debug`, anywhere on the line, shows the traceback.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from inspect import signature
from pathlib import Path

import typer

from savile.cli.commands import app
from savile.cli.output import complain, flush, quietly, say_json
from savile.cli.preferences import preferences
from savile.errors import SHOWN, InterruptedRun, NothingWorkedError, SavileError, UsageError

WRONG_COMMAND_LINE: type[Exception] = typer.BadParameter.__bases__[0]
"""Click's `UsageError`, wherever this version of typer keeps it."""
SHORT = {"--seed": "seed", "--device": "compute.device"}
"""Flags that are short for `--set`, in the commands that have it."""
TALKATIVE = ("torchao", "torch.utils._pytree")
"""Loggers that warn, when transformers imports torchao, of kernels for other machines."""


app.command()(preferences)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; here errors become sentences."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        code = app(args=list(spelled_out(given)), prog_name="savile", standalone_mode=False)
        flush()
    except SavileError as error:
        return _fail(error, given)
    except typer.Abort:
        return _fail(InterruptedRun("stopped; the same command goes on"), given)
    except WRONG_COMMAND_LINE as error:
        return _fail(UsageError(_message(error)), given)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads: not our error
        return 0
    except Exception as error:  # noqa: BLE001 - the process's edge
        return _bug(error, given)
    return int(code or 0)


def spelled_out(given: Sequence[str]) -> Iterator[str]:
    """Yield the command line without `--debug`, and with `--seed 1` as `--set seed=1`."""
    words, short = iter(given), SHORT if _changes_the_spec(given) else {}
    for word in words:
        flag, equals, value = word.partition("=")
        if flag in short:
            yield "--set"
            yield f"{short[flag]}={value if equals else next(words, '')}"
        elif word == "--":
            yield from (word, *words)
        elif word != "--debug":
            yield word


def _changes_the_spec(given: Sequence[str]) -> bool:
    """Return whether the command of a command line takes `--set`."""
    name = next((word for word in given if not word.startswith("-")), "")
    called = [c.callback for c in app.registered_commands if c.callback is not None]
    return any(f.__name__ == name and "changes" in signature(f).parameters for f in called)


def _fail(error: SavileError, given: Sequence[str]) -> int:
    """Tell what is wrong on stderr, and as JSON on stdout where that was asked for."""
    if "--debug" in given:
        traceback.print_exception(error)
    shown = [str(problem) for problem in error.problems[:SHOWN]]
    if error.total > len(shown):
        shown.append(f"... and {error.total - len(shown)} more")
    complain("\n".join(f"error: {line}" for line in shown))
    printed = isinstance(error, NothingWorkedError)  # the board, which has every reason
    if "--json" in given and not printed:
        problems = [
            {key: getattr(p, key) for key in ("what", "where", "found", "expected", "fix")}
            for p in error.problems
        ]
        kind = {"type": type(error).__name__, "exit_code": error.exit_code, "total": error.total}
        quietly(lambda: say_json({"error": {**kind, "problems": problems}}))
    return error.exit_code


def _message(error: Exception) -> str:
    said: Callable[[], str] = getattr(error, "format_message", error.__str__)
    return said()


def _bug(error: Exception, given: Sequence[str]) -> int:
    """Tell that this is our fault, and where the details are."""
    lines = "".join(traceback.format_exception(error))
    if "--debug" in given:
        complain(lines)
    place = _write_details(f"savile {' '.join(given)}\n\n{lines}")
    complain(
        f"error: a bug in savile: {type(error).__name__}: {error}\n"
        f"Please report it{f' with {place}' if place else ' with what --debug prints'}"
    )
    if "--json" in given:
        body = {"type": "Bug", "exit_code": 1, "details": str(place) if place else None}
        quietly(lambda: say_json({"error": {**body, "problems": [{"what": str(error)}]}}))
    return 1


def _write_details(text: str) -> Path | None:
    from savile import store

    try:
        path = Path(tempfile.gettempdir()) / f"savile-error-{os.getpid()}.txt"
        store.write_atomic(path, text.encode("utf-8", "replace"))
    except (SavileError, OSError):
        return None
    return path
