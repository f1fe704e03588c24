"""The `savile` command. Imports stand inside the commands, so that `--help` starts in a blink.

Results go to stdout, progress and errors to stderr; `--json` prints one document. The exit codes
are those of `savile.errors`; a traceback is shown with `--debug` alone.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from savile.errors import SHOWN, InterruptedRun, NothingWorkedError, SavileError, UsageError

if TYPE_CHECKING:
    from savile.spec import Spec

app = typer.Typer(
    name="savile",
    help="Measure every way of customizing a language model on one honest board.",
    add_completion=False,
    rich_markup_mode=None,  # plain help starts in half the time
    pretty_exceptions_enable=False,
)

WRONG_COMMAND_LINE: type[Exception] = typer.BadParameter.__bases__[0]
"""Click's `UsageError`, wherever this version of typer keeps it."""
SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", help="The task.yaml.")]
RunDir = Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the spec.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; here errors become sentences."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(args=given, prog_name="savile", standalone_mode=False)
        _flush()
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


# ── commands ─────────────────────────────────────────────────────────────────────────────────────


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Answer the options that stand before a command."""
    if version:
        from savile import __version__

        _say(f"savile {__version__}")
    elif context.invoked_subcommand is None:
        _say(context.get_help())


@app.command()
def run(  # noqa: PLR0913 - the options of a command
    spec: SpecFile,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run folder; default runs/<task>.")
    ] = None,
    changes: Sets = None,
    only: Annotated[list[str] | None, typer.Option(help="Run only this technique.")] = None,
    skip: Annotated[list[str] | None, typer.Option(help="Leave this technique out.")] = None,
    seed: Annotated[int | None, typer.Option(help="As --set seed=N.")] = None,
    device: Annotated[str | None, typer.Option(help="As --set compute.device=D.")] = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="A line per unit.")] = False,
    debug: Debug = False,
) -> None:
    """Measure every technique of SPEC; the same command goes on with an unfinished run."""
    from rich.console import Console

    from savile.ladder.interrupt import interruptible

    with interruptible() as interrupt:
        loaded = _load(spec, changes, seed=seed, device=device)
        from savile.ladder.live import LiveProgress
        from savile.ladder.prepare import Choice, prepare
        from savile.ladder.progress import Step
        from savile.ladder.run import execute

        prepared = prepare(loaded, out, Choice(only=tuple(only or ()), skip=tuple(skip or ())))
        with LiveProgress(Console(stderr=True), quiet=quiet, verbose=verbose) as live:

            def hear(step: Step) -> None:
                interrupt.check()
                live(step)

            try:
                document = execute(prepared, hear)
            except NothingWorkedError:
                document = prepared.folder.board() or {}
    from savile.ladder.run import something_worked

    page = _write_page(prepared.folder.path, document)
    if as_json:
        _say_json(document)
    else:
        _say_board(document)
        _say(f"\nreport: {page}")
    something_worked(document)


@app.command()
def report(
    folder: RunDir,
    as_json: Json = False,
    as_html: Annotated[bool, typer.Option("--html", help="Write report.html again.")] = False,
    debug: Debug = False,
) -> None:
    """Show the board of a finished run again."""
    document = _board(folder)
    if as_json:
        _say_json(document)
    elif as_html:
        _say(str(_write_page(folder, document)))
    else:
        _say_board(document)


@app.command()
def check(
    spec: SpecFile, changes: Sets = None, as_json: Json = False, debug: Debug = False
) -> None:
    """Check a spec and its data: nothing is trained."""
    from savile import data
    from savile.data import check as checks

    loaded = _load(spec, changes)
    health = checks.health(loaded, data.load(loaded))
    if as_json:
        _say_json(health.to_dict())
    else:
        _say("\n".join(health.lines()))


@app.command()
def init(
    source: Annotated[str, typer.Argument(metavar="DATA_OR_CASE", help="A data file, or a case.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder (case) or file (data) to write.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Write a task.yaml for a data file, or copy a bundled business case."""
    from savile.spec import init as first_spec

    if Path(source).is_file():
        made = first_spec.write_spec(Path(source), out)
    else:
        made = first_spec.copy_case(source, out)
    _say(f"wrote {made}\nnext: savile check {made}; savile run {made}")


@app.command()
def schema() -> None:
    """Print the JSON schema of a task.yaml, for editors."""
    from savile.spec.schema import json_schema

    _say_json(json_schema())


@app.command()
def techniques(as_json: Json = False) -> None:
    """List every prompt, delta, objective and metric with its settings."""
    from savile.spec import catalog

    listed = catalog.techniques()
    if as_json:
        _say_json({"schema_version": 1, "techniques": listed})
    else:
        _say("\n".join(line for part in listed for line in _part_lines(part)))


@app.command()
def env(as_json: Json = False) -> None:
    """Show versions, device and cores."""
    from savile.ladder import environment

    facts = environment.facts()
    if as_json:
        _say_json(facts)
    else:
        _say("\n".join(f"{name:<16} {value}" for name, value in facts.items()))


@app.command()
def predict(
    folder: RunDir,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="Inputs; stdin when none.")
    ] = None,
    technique: Annotated[str | None, typer.Option(help="Default: the best one.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Answer new inputs with a technique of a finished run."""
    document = _board(folder)
    inputs = list(texts) if texts else [line.rstrip("\n") for line in sys.stdin]
    from savile.ladder.answer import Customized, best_of

    asked = Customized(folder, technique or best_of(document))
    answers = asked.predict(inputs)
    if as_json:
        rows = [{"input": i, "answer": a} for i, a in zip(inputs, answers, strict=True)]
        _say_json({"technique": asked.technique, "predictions": rows})
    else:
        _say("\n".join(answer or "" for answer in answers))


# ── pieces ───────────────────────────────────────────────────────────────────────────────────────


def _load(
    path: Path, changes: list[str] | None, *, seed: int | None = None, device: str | None = None
) -> Spec:
    from savile import spec

    overrides = list(changes or [])
    overrides += [] if seed is None else [f"seed={seed}"]
    overrides += [] if device is None else [f"compute.device={device}"]
    return spec.load(path, overrides)


def _board(folder: Path) -> dict[str, Any]:
    from savile.errors import Problem
    from savile.ladder.folder import RunFolder

    document = RunFolder(folder).board() if folder.is_dir() else None
    if document is None:
        fix = "Finish it with `savile run`"
        raise UsageError(Problem(where=str(folder), what="holds no finished run", fix=fix))
    return document


def _write_page(folder: Path, document: dict[str, Any]) -> Path:
    from savile import store
    from savile.report import html

    page = folder / "report.html"
    store.write_atomic(page, html.render(document).encode("utf-8"))
    return page


def _part_lines(part: dict[str, Any]) -> list[str]:
    """Return one technique part for a terminal: what it is, where it is from, its settings."""
    lines = [f"{part['name']}  ({part['axis']})  {part['summary']}"]
    lines += [f"    source: {part['source']}"] if part["source"] else []
    for setting in part["settings"]:
        default = "" if setting["required"] else f" = {setting['default']}"
        lines.append(f"    {setting['name']}{default}: {setting['doc']}")
    return lines


def _say_board(document: dict[str, Any]) -> None:
    from rich.console import Console

    from savile.report import terminal

    if sys.stdout is not None:
        terminal.render(document, Console())


def _say_json(document: Any) -> None:
    from savile.store import dump_json

    _say(dump_json(document).decode("utf-8").rstrip("\n"))


def _say(text: str) -> None:
    if sys.stdout is not None:
        typer.echo(text)


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


# ── errors ───────────────────────────────────────────────────────────────────────────────────────


def _fail(error: SavileError, given: Sequence[str]) -> int:
    """Tell what is wrong on stderr, and as JSON on stdout where that was asked for."""
    if "--debug" in given:
        traceback.print_exception(error)
    shown = [str(problem) for problem in error.problems[:SHOWN]]
    if error.total > len(shown):
        shown.append(f"... and {error.total - len(shown)} more")
    _complain("\n".join(f"error: {line}" for line in shown))
    if "--json" in given:
        problems = [
            {key: getattr(p, key) for key in ("what", "where", "found", "expected", "fix")}
            for p in error.problems
        ]
        kind = {"type": type(error).__name__, "exit_code": error.exit_code, "total": error.total}
        _quietly(lambda: _say_json({"error": {**kind, "problems": problems}}))
    return error.exit_code


def _message(error: Exception) -> str:
    said: Callable[[], str] = getattr(error, "format_message", error.__str__)
    return said()


def _bug(error: Exception, given: Sequence[str]) -> int:
    """Tell that this is our fault, and where the details are."""
    lines = "".join(traceback.format_exception(error))
    if "--debug" in given:
        _complain(lines)
    place = _write_details(f"savile {' '.join(given)}\n\n{lines}")
    _complain(
        f"error: a bug in savile: {type(error).__name__}: {error}\n"
        f"Please report it{f' with {place}' if place else ' with what --debug prints'}"
    )
    if "--json" in given:
        body = {"type": "Bug", "exit_code": 1, "details": str(place) if place else None}
        _quietly(lambda: _say_json({"error": {**body, "problems": [{"what": str(error)}]}}))
    return 1


def _write_details(text: str) -> Path | None:
    from savile import store

    try:
        path = Path(tempfile.gettempdir()) / f"savile-error-{os.getpid()}.txt"
        store.write_atomic(path, text.encode("utf-8", "replace"))
    except (SavileError, OSError):
        return None
    return path


def _complain(text: str) -> None:
    _quietly(lambda: typer.echo(text, err=True) if sys.stderr is not None else None)


def _quietly(work: Callable[[], None]) -> None:
    """Do what may meet a closed pipe."""
    try:
        work()
    except (BrokenPipeError, ValueError):
        return
