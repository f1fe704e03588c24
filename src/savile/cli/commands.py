"""The commands of `savile`. Imports stand inside them, so that `--help` starts in a blink.

Results go to stdout, progress and errors to stderr; `--json` prints one document.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from savile.cli.importing import importing
from savile.cli.input import inputs
from savile.cli.output import say, say_board, say_json, say_line
from savile.errors import NothingWorkedError, UsageError

if TYPE_CHECKING:
    from savile.data import Dataset
    from savile.spec import Spec

app = typer.Typer(
    name="savile",
    help="Measure every way of customizing a language model on one honest board.",
    add_completion=False,
    rich_markup_mode=None,  # plain help starts in half the time
    pretty_exceptions_enable=False,
)

SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", help="The task.yaml.")]
RunDir = Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Verbose = Annotated[
    bool | None, typer.Option("--verbose/--quiet", "-v/-q", help="A line per unit, or no progress.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change the spec; --seed N, --device D are short."
    ),
]


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Answer the options that stand before a command."""
    if version:
        from savile import __version__

        say(f"savile {__version__}")
    elif context.invoked_subcommand is None:
        say(context.get_help())


@app.command()
def run(
    spec: SpecFile,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Run folder; default runs/<task>."),
    ] = None,
    fork: Annotated[
        bool, typer.Option("--fork", help="When DIR holds another run, take DIR-2, DIR-3, ...")
    ] = False,
    changes: Sets = None,
    only: Annotated[list[str] | None, typer.Option(help="Run only this technique.")] = None,
    skip: Annotated[list[str] | None, typer.Option(help="Leave this technique out.")] = None,
    as_json: Json = False,
    verbose: Verbose = None,
) -> None:
    """Measure every technique of SPEC; the same command goes on with an unfinished run."""
    from rich.console import Console

    from savile.ladder.interrupt import interruptible

    with interruptible() as interrupt:
        loaded = load_spec(spec, changes)
        with importing():
            from savile.ladder.live import LiveProgress
            from savile.ladder.prepare import Choice, prepare
            from savile.ladder.progress import Step
            from savile.ladder.run import execute

        choice = Choice(only=tuple(only or ()), skip=tuple(skip or ()))
        prepared = prepare(loaded, out, choice, fork=fork)
        with LiveProgress(
            Console(stderr=True), quiet=verbose is False, verbose=verbose is True
        ) as live:

            def hear(step: Step) -> None:
                interrupt.check()
                live(step)

            try:
                document = execute(prepared, hear)
            except NothingWorkedError:
                document = prepared.folder.board() or {}
    from savile.ladder.board import something_worked

    page = _write_page(prepared.folder.path, document)
    if as_json:
        say_json(document)
    else:
        say_board(document)
        say(f"\nreport: {page}")
    something_worked(document)


@app.command()
def report(
    folder: RunDir,
    as_json: Json = False,
    as_html: Annotated[bool, typer.Option("--html", help="Write report.html again.")] = False,
) -> None:
    """Show the board of a finished run again."""
    document = _board(folder)
    if as_json:
        say_json(document)
    elif as_html:
        say(str(_write_page(folder, document)))
    else:
        say_board(document)


@app.command()
def check(spec: SpecFile, changes: Sets = None, as_json: Json = False) -> None:
    """Check a spec, its data and its base: nothing is loaded or trained, nothing downloaded."""
    from dataclasses import replace

    from savile import data
    from savile.data import check as checks

    loaded = load_spec(spec, changes)
    dataset = data.load(loaded)
    notes = _check_base(loaded, dataset)
    health = checks.health(loaded, dataset)
    health = replace(health, notes=[*health.notes, *notes])
    if as_json:
        say_json(health.to_dict())
    else:
        say("\n".join(health.lines()))


@app.command()
def init(
    source: Annotated[str, typer.Argument(metavar="DATA_OR_CASE", help="A data file, or a case.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder (case) or file (data) to write.")
    ] = None,
) -> None:
    """Write a task.yaml for a data file, or copy a bundled business case."""
    from savile.spec import init as first_spec

    if Path(source).is_file():
        schema = first_spec.target_of(Path(source), out).parent / first_spec.SCHEMA_NAME
        known = schema.exists()
        made = first_spec.write_spec(Path(source), out)
        wrote = str(made) if known else f"{made} and, for editors, {schema}"
    else:
        made = first_spec.copy_case(source, out)
        wrote = str(made)
    say(f"wrote {wrote}\nnext: savile check {made}; savile run {made}")


@app.command()
def schema() -> None:
    """Print the JSON schema of a task.yaml, for editors."""
    from savile.spec.schema import json_schema

    say_json(json_schema())


@app.command()
def techniques(as_json: Json = False) -> None:
    """List every prompt, delta, objective and metric with its settings."""
    from savile.spec import catalog

    listed = catalog.techniques()
    if as_json:
        say_json({"schema_version": 1, "techniques": listed})
    else:
        say("\n".join(line for part in listed for line in part_lines(part)))


@app.command()
def env(as_json: Json = False) -> None:
    """Show versions, device and cores."""
    from savile.ladder import environment

    facts = environment.facts()
    if as_json:
        say_json(facts)
    else:
        say("\n".join(f"{name:<16} {value}" for name, value in facts.items()))


@app.command()
def predict(
    folder: RunDir,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="Inputs; stdin when none.")
    ] = None,
    technique: Annotated[str | None, typer.Option(help="Default: the best one.")] = None,
    as_json: Json = False,
) -> None:
    r"""Answer new inputs with a technique of a finished run, one line an answer.

    A line break inside an answer is printed as \n, a backslash as \\; where no answer could be read
    the line is empty. --json gives the answers as they are.
    """
    document = _board(folder)
    asked_for = inputs(texts or ())
    with importing():
        from savile.ladder.answer import Customized, best_of

    asked = Customized(folder, technique or best_of(document))
    answers = asked.predict(asked_for)
    if as_json:
        rows = [{"input": i, "answer": a} for i, a in zip(asked_for, answers, strict=True)]
        say_json({"technique": asked.technique, "predictions": rows})
    else:
        for answer in answers:
            say_line(answer or "")


@app.command()
def export(
    folder: RunDir,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Empty, or to be made.")
    ],
    technique: Annotated[str | None, typer.Option(help="Default: the best one.")] = None,
    form: Annotated[
        str | None,
        typer.Option(help="peft, merged, savile, prompt, vocabulary; default: the first that can."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Which of its seeds, from 0.")] = 0,
    as_json: Json = False,
) -> None:
    """Write a technique of a finished run as files: an adapter, a model, or a prompt."""
    with importing():
        from savile.handover import export as hand_over

    made = hand_over(folder, out, technique=technique, form=form, seed_index=seed)
    if as_json:
        say_json(made.document())
    else:
        say("\n".join(made.lines()))


def load_spec(path: Path, changes: list[str] | None) -> Spec:
    """Read a spec with the changes of `--set`; a data file in its place is told apart."""
    from savile import spec
    from savile.data.source import SUFFIXES
    from savile.errors import Problem

    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix in SUFFIXES and suffix != ".json" and path.is_file():  # a spec may be JSON
        what = f"that is a data file: `savile init {path}` writes a spec"
        raise UsageError(Problem(where=str(path), what=what))
    return spec.load(path, changes or [])


def _check_base(spec: Spec, dataset: Dataset) -> list[str]:
    """Check the prompts, race, share, and the files of the bases that are on this machine and of a
    judge; return what is to know."""
    from savile.data.human_verdicts import load_human_verdicts
    from savile.judge.itself import itself
    from savile.ladder import encoders, estimate, task
    from savile.lm import folder, resolve

    candidates = spec.candidates(dataset.gives, len(dataset.train))
    spec.opponent(candidates)
    task.check_prompts(spec, dataset, candidates)
    task.check_race(spec, dataset)
    task.check_share(spec, candidates)
    notes = [*load_human_verdicts(spec).notes, *estimate.notes(spec, dataset)]
    notes += [*encoders.notes(candidates, spec.folder), *itself(spec.judge, spec.ladder_bases)]
    for base in (base for base in spec.every_base if isinstance(base, str)):
        found = resolve.at_hand(base, spec.folder)
        if found is None:
            notes.append(f"base {base}: not in the local cache: not checked")
        else:
            folder.validate(found)
    return notes


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


def part_lines(part: dict[str, Any]) -> list[str]:
    """Return one technique part for a terminal: what it is, where it is from, its settings."""
    lines = [f"{part['name']}  ({part['axis']})  {part['summary']}"]
    lines += [f"    source: {part['source']}"] if part["source"] else []
    for setting in part["settings"]:
        default = "" if setting["required"] else f" = {setting['default']}"
        lines.append(f"    {setting['name']}{default}: {setting['doc']}")
    return lines
