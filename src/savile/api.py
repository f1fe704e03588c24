"""The Python side of the command line: run a spec, look at the board, ask the best technique.

run = savile.run("task.yaml")
run.board[0]["technique"], run.verdict
run.best.predict(["where is my parcel?"])
run.export("handed_over")
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from savile import handover
from savile import spec as specs
from savile.data.pairing import Built
from savile.errors import Problem, UsageError
from savile.handover import load_customized
from savile.ladder import pairs, progress
from savile.ladder.answer import Customized, best_of
from savile.ladder.drawing import Drawing
from savile.ladder.folder import RunFolder, answers_beside
from savile.ladder.interrupt import interruptible
from savile.ladder.prepare import Choice, prepare
from savile.ladder.run import execute

__all__ = ["Drawing", "Run", "build_preferences", "load_customized", "pair_logs", "run"]


class Run:
    """A finished run folder."""

    def __init__(self, folder: Path | str) -> None:
        """Open a run folder.

        Raises:
            UsageError: there is no finished run in it.
        """
        self.folder = Path(folder)
        document = RunFolder(self.folder).board() if self.folder.is_dir() else None
        if document is None:
            fix = "Finish it with `savile run`"
            raise UsageError(Problem(where=str(folder), what="holds no finished run", fix=fix))
        self.document: dict[str, Any] = document
        """The whole board document, as `savile run --json` prints it."""

    @property
    def board(self) -> list[dict[str, Any]]:
        """The rows, best first."""
        return list(self.document["board"])

    @property
    def verdict(self) -> str:
        """What the board says, in words."""
        return str(self.document["verdict"]["text"])

    @cached_property
    def best(self) -> Customized:
        """The winner (or the highest technique when nothing is decided), ready to predict."""
        return self.technique(best_of(self.document))

    def technique(self, name: str, seed_index: int = 0) -> Customized:
        """Return one technique of the board, ready to predict."""
        return Customized(self.folder, name, seed_index)

    def export(
        self,
        out: Path | str,
        *,
        technique: str | None = None,
        form: str | None = None,
        seed_index: int = 0,
    ) -> handover.Export:
        """Write one technique, the best one by default, as files; see `savile.handover`."""
        return handover.export(
            self.folder, Path(out), technique=technique, form=form, seed_index=seed_index
        )

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}): {self.verdict}"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("technique", "score", "95 %", "seconds"))
        rows = "".join(f"<tr>{_cells(row)}</tr>" for row in self.board)
        said = html.escape(self.verdict).replace("\n", "<br>")
        return f"<p>{said}</p><table><tr>{head}</tr>{rows}</table>"


def run(
    spec: Path | str,
    out: Path | str | None = None,
    *,
    overrides: Sequence[str] = (),
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    on_progress: progress.Listener = progress.ignore,
) -> Run:
    """Measure every technique of a spec, or go on with an unfinished run, and return the run.

    Args:
        spec: path of a `task.yaml`.
        out: the run folder; default `runs/<task>`.
        overrides: `key.sub=value` texts, as `--set`.
        only: names of the techniques to run; empty for all.
        skip: names of techniques to leave out.
        on_progress: told often where the run is.

    Raises:
        SavileError: see `savile.errors`.
    """
    loaded = specs.load(Path(spec), overrides)
    choice = Choice(only=tuple(only), skip=tuple(skip))
    with interruptible() as interrupt:

        def hear(step: progress.Step) -> None:
            interrupt.check()
            on_progress(step)

        prepared = prepare(loaded, None if out is None else Path(out), choice)
        execute(prepared, hear)
    return Run(prepared.folder.path)


def build_preferences(
    spec: Path | str,
    out: Path | str,
    drawing: Drawing | None = None,
    *,
    overrides: Sequence[str] = (),
    on_progress: progress.Listener = progress.ignore,
) -> Built:
    """Let a technique answer train rows several times, and write what the metric tells apart.

    Args:
        spec: path of a `task.yaml`: its train rows are answered, its metric scores.
        out: the .jsonl file to write, which `data.preferences` reads.
        drawing: what answers, and how; default: zero_shot, 4 samples a row, temperature 1.
        overrides: `key.sub=value` texts, as `--set`.
        on_progress: told often how far it is; an exception it raises stops it.

    Raises:
        SavileError: see `savile.errors`; nothing is written then.
    """
    pairs.free(Path(out))
    loaded = specs.load(Path(spec), overrides)
    kept = answers_beside(Path(out))
    built = pairs.from_samples(loaded, drawing or Drawing(), on_progress, kept)
    pairs.write(built, Path(out))
    return built


def pair_logs(
    spec: Path | str,
    logs: Path | str,
    out: Path | str,
    *,
    per_question: int = 1,
    overrides: Sequence[str] = (),
) -> Built:
    """Pair logged answers by their scores and write the pairs; see `savile.data.logs`.

    Args:
        spec: path of a `task.yaml`: how files are read, and the metric for logs without a score.
        logs: the file: prompt, response, score.
        out: the .jsonl file to write, which `data.preferences` reads.
        per_question: most pairs of one question.
        overrides: `key.sub=value` texts, as `--set`.

    Raises:
        SavileError: see `savile.errors`; nothing is written then.
    """
    pairs.free(Path(out))
    loaded = specs.load(Path(spec), overrides)
    built = pairs.from_logs(loaded, Path(logs), per_question=per_question)
    pairs.write(built, Path(out))
    return built


def _cells(row: dict[str, Any]) -> str:
    if row["score"] is None:
        reason = html.escape(row["reason"] or row["status"])
        return f"<td>{html.escape(row['technique'])}</td><td colspan=3>{reason}</td>"
    values = (
        f"{row['score']:.3f}",
        f"{row['low']:.3f} to {row['high']:.3f}",
        f"{row['seconds']:.1f}",
    )
    cells = "".join(f"<td>{value}</td>" for value in values)
    return f"<td>{html.escape(row['technique'])}</td>{cells}"
