"""A measured technique answers new inputs: its committed prompt and weights on the loaded base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from savile.errors import IntegrityError, Problem, UsageError
from savile.ladder import bases, encoders
from savile.ladder.fits import does_not_fit
from savile.ladder.folder import RunFolder, unit_id
from savile.ladder.measure import attached, ready_of
from savile.ladder.neighbors import Neighbors
from savile.ladder.trial import answers_of
from savile.lm.base import Base
from savile.lm.endpoint.purse import Purse
from savile.prompts.base import Frame
from savile.spec.model import ComputeSection
from savile.types import Example, Prediction


class Customized:
    """One technique of a finished run, on its base."""

    def __init__(self, folder: Path, technique: str, seed_index: int = 0) -> None:
        """Read the trial and load the base.

        Args:
            folder: the run folder.
            technique: a name on its board.
            seed_index: which of its seeds, from 0.

        Raises:
            UsageError: the board has no such technique, or it has no score.
            IntegrityError: a file of the trial, or the base, changed since the run.
        """
        run = RunFolder(folder)
        name = unit_id(technique, seed_index)
        unit, measured = run.read(f"trials/{name}"), run.read(f"measured/{name}")
        if unit is None or measured is None or measured.result["status"] != "ok":
            raise _no_technique(run, technique)
        self.technique = technique
        self._ready = ready_of(unit)
        self._base = base_of(run, self._ready.candidate.base)
        self._neighbors = neighbors_of(run)

    def predict(self, inputs: Sequence[str]) -> list[str | None]:
        """Return one answer per input; None where none could be read out of the model's text.

        Raises:
            UsageError: an input is longer than the model's context.
        """
        return [prediction.answer for prediction in self.predictions(inputs)]

    def predictions(self, inputs: Sequence[str]) -> list[Prediction]:
        """Return the answers with the raw texts and token counts."""
        rows = [Example(id=str(i), input=text, output="") for i, text in enumerate(inputs)]
        with self.asking(rows) as (base, frame, max_new_tokens):
            refuse_long(base, frame, rows)
            return answers_of(base, frame, rows, max_new_tokens)

    @contextmanager
    def asking(self, rows: Sequence[Example]) -> Iterator[tuple[Base, Frame, int]]:
        """Yield what answers `rows`: the base with its weights attached, the prompt, and where an
        answer is cut."""
        frame = self._neighbors.located(self._base, self._ready.frame, rows)
        with attached(self._base, self._ready):
            yield self._base, frame, self._ready.max_new_tokens


def best_of(board: Mapping[str, Any]) -> str:
    """Return the winner of a board, or the best technique when no baseline is beaten.

    Raises:
        UsageError: no technique of the run has a score.
    """
    if board["verdict"]["winner"]:
        return str(board["verdict"]["winner"])
    for row in board["board"]:
        if row["status"] == "ok" and row["kind"] != "baseline":
            return str(row["technique"])
    raise UsageError(Problem(what="no technique of this run has a score"))


def base_of(run: RunFolder, index: int) -> Base:
    """Load a base of a run.

    Raises:
        IntegrityError: it changed since the run.
    """
    manifest = run.manifest() or {}
    folder, base = Path(manifest["base_folder"]), bases.from_json(manifest["bases"][index])
    if bases.identity(base, folder) != manifest["identity"]["base"][index]:
        raise IntegrityError(
            Problem(
                where=str(run.path),
                what=f"the base {bases.name_of(base)!r} is not the one that was measured",
                fix="Put its files back, or measure again in a new folder",
            )
        )
    compute = ComputeSection.model_validate(manifest["identity"]["spec"]["compute"])
    return bases.open_base(base, folder, compute, bases.Till(Purse(), run.answers_path))


def neighbors_of(run: RunFolder) -> Neighbors:
    """Return what looks up worked examples as a run did.

    Raises:
        IntegrityError: a sentence encoder changed since the run.
    """
    manifest = run.manifest() or {}
    encoders.refuse_others(manifest, run.path)
    return Neighbors(folder=Path(manifest["base_folder"]))


def refuse_long(base: Base, frame: Frame, rows: Sequence[Example]) -> None:
    """Raise UsageError when a row is longer than the model's context."""
    fits = ((number, does_not_fit(base, frame, [row])) for number, row in enumerate(rows, 1))
    problems = [Problem(where=f"input {n}", what=reason) for n, reason in fits if reason]
    if problems:
        raise UsageError(problems)


def _no_technique(run: RunFolder, technique: str) -> UsageError:
    rows = (run.board() or {"board": []})["board"]
    names = [r["technique"] for r in rows if r["status"] == "ok" and r["kind"] != "baseline"]
    return UsageError(
        Problem(
            where=str(run.path),
            what=f"has no measured technique {technique!r}",
            expected=f"one of {', '.join(names)}" if names else "",
            fix="" if names else "Finish the run first: `savile run`",
        )
    )
