"""`savile preferences`: preference pairs from own answers and the metric, or from logs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from savile.cli.commands import Json, Sets, SpecFile, Verbose, load_spec
from savile.cli.importing import importing
from savile.cli.output import say, say_json

if TYPE_CHECKING:
    from savile.data.pairing import Built
    from savile.ladder.progress import Listener, Step


def preferences(  # noqa: PLR0913 - a command's options are its parameters
    spec: SpecFile,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The .jsonl file to write.")
    ],
    technique: Annotated[
        str | None,
        typer.Option(help="What answers: a prompt technique (default zero_shot), or one of --run."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A finished run whose technique answers.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Answers to each row.")] = 4,
    temperature: Annotated[float, typer.Option(help="Of the drawing.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Odds covered by what is drawn from.")] = 1.0,
    rows: Annotated[int | None, typer.Option(help="At most this many train rows.")] = None,
    pairs_per_row: Annotated[int, typer.Option(help="Most pairs of one row.")] = 1,
    from_logs: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Pair logged answers (prompt, response, score) instead."),
    ] = None,
    changes: Sets = None,
    as_json: Json = False,
    verbose: Verbose = None,
) -> None:
    """Build data.preferences: answer train rows several times; the metric says which is better."""
    from savile.errors import Problem, UsageError

    if from_logs is not None and (technique or run):
        what = "--from-logs pairs what was answered already: no technique answers"
        raise UsageError(Problem(what=what, fix="Leave out --technique and --run"))
    loaded = load_spec(spec, changes)
    with importing():
        from savile.ladder import pairs
        from savile.ladder.drawing import Drawing
        from savile.ladder.folder import answers_beside

    pairs.free(out)
    if from_logs is None:
        drawing = Drawing(
            technique=technique,
            run=run,
            samples=samples,
            temperature=temperature,
            top_p=top_p,
            rows=rows,
            per_row=pairs_per_row,
        )
        kept = answers_beside(out)
        built = _watched(lambda hear: pairs.from_samples(loaded, drawing, hear, kept), verbose)
    else:
        built = pairs.from_logs(loaded, from_logs, per_question=pairs_per_row)
    pairs.write(built, out)
    if as_json:
        say_json({"schema_version": 1, "out": str(out), **built.summary()})
    else:
        say("\n".join([f"wrote {out}: {built.lines()[0]}", *built.lines()[1:]]))
        say(f"next: data.preferences: {out.name} in the spec")


def _watched(build: Callable[[Listener], Built], verbose: bool | None) -> Built:
    """Show how far it is, and stop at a signal."""
    from rich.console import Console

    from savile.errors import InterruptedRun, Problem
    from savile.ladder.interrupt import interruptible
    from savile.ladder.live import LiveProgress

    with (
        interruptible() as interrupt,
        LiveProgress(Console(stderr=True), quiet=verbose is False, verbose=verbose is True) as live,
    ):

        def hear(step: Step) -> None:
            if interrupt.came is not None:
                what = f"stopped by {interrupt.came.name}; no pair is written"
                fix = "The same command draws the same answers again"
                raise InterruptedRun(Problem(what=what, fix=fix))
            live(step)

        return build(hear)
