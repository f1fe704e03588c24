"""`savile export`: one technique of a finished run as a folder that others can use.

The folder appears complete and checked, or not at all: it is written beside its place, read back,
compared with what was measured, and then renamed.

Cost: loading the base, and what the form and its check cost.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch

from savile import registry, store
from savile.errors import IntegrityError, Problem, UsageError
from savile.export import prompt
from savile.export.base import Customization, Form, Opened, Where
from savile.handover import facts as facts_file
from savile.handover.card import card, told
from savile.handover.check import difference, limit_of, seen
from savile.handover.facts import Checked, Facts, Measured, OfBase
from savile.handover.rows import Rows, rows_of
from savile.ladder import bases
from savile.ladder.answer import base_of, best_of, neighbors_of
from savile.ladder.folder import RunFolder, Unit, unit_id
from savile.ladder.measure import Ready, attached, ready_of
from savile.ladder.trial import answers_of
from savile.lm.base import Base
from savile.lm.local import Local

CARD: Final = "README.md"
PROMPT: Final = "prompt"
"""The form that every folder carries."""


class Export(NamedTuple):
    """What was written."""

    folder: Path
    facts: Facts
    bytes: int
    """Of all files."""

    def document(self) -> dict[str, Any]:
        """Return it as one JSON document."""
        said = {name: value for name, value in asdict(self.facts).items() if name != "candidate"}
        own = {"folder": str(self.folder), "bytes": self.bytes, "schema_version": 1}
        return {**own, "technique": self.facts.candidate.name, **said}

    def lines(self) -> list[str]:
        """Return it for a terminal: what was written, what was checked, how to go on."""
        facts = self.facts
        return [
            f"wrote {facts.candidate.name} as {facts.form} to {self.folder} ({self.bytes:,} bytes)",
            told(facts.checked),
            f"{self.folder / CARD} says how to load it",
        ]


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """One committed trial of a row of the board."""

    run: RunFolder
    row: Mapping[str, Any]
    unit: Unit
    ready: Ready
    seed_index: int


def export(
    run: Path,
    out: Path,
    *,
    technique: str | None = None,
    form: str | None = None,
    seed_index: int = 0,
) -> Export:
    """Write one technique of a finished run and check what was written.

    Args:
        run: the run folder.
        out: a folder that is empty or does not exist.
        technique: a name on the board; None takes the best one.
        form: a file of `export/`; None takes the first that holds the technique: peft, merged,
            savile, or prompt where nothing is trained.
        seed_index: which of its seeds, from 0.

    Raises:
        UsageError: no such technique, form or seed; the form cannot hold it; `out` is not empty.
        IntegrityError: the run's files changed, or what was written is not what was measured.
    """
    _refuse_full(out)
    _refuse_unknown(form)
    trial = _trial(RunFolder(run), technique, seed_index)
    rows = rows_of(trial.run, trial.unit)
    base, made = _made(trial, rows)
    with store.new_dir(out) as place:
        if isinstance(base, Local) and trial.ready.weights is not None:
            chosen, checked = _with_weights(trial, rows, base, made, form, place)
        else:
            chosen, checked = _prompt_alone(rows, made, form, place)
        facts = _facts(trial, chosen, base, checked)
        facts_file.write(place, facts)
        retriever = made.frame.retriever
        said = card(facts, _load(chosen), "" if retriever is None else retriever.embedder)
        store.write_atomic(place / CARD, said.encode("utf-8"))
    return Export(out, facts, sum(file.stat().st_size for file in out.iterdir()))


def _made(trial: _Trial, rows: Rows) -> tuple[Base | None, Customization]:
    """Return the base, where it is needed, and the technique with its prompt for the rows."""
    ready, base = trial.ready, None
    frame, retriever = ready.frame, ready.frame.retriever
    if ready.weights is not None or (retriever is not None and retriever.embedder):
        base = base_of(trial.run, ready.candidate.base)
        frame = neighbors_of(trial.run).located(base, frame, rows.examples)
    return base, Customization(
        candidate=ready.candidate,
        frame=frame,
        max_new_tokens=ready.max_new_tokens,
        example=rows.examples[0],
        lm=base.lm if isinstance(base, Local) else None,
    )


def _with_weights(
    trial: _Trial, rows: Rows, base: Local, made: Customization, form: str | None, place: Path
) -> tuple[str, Checked]:
    """Write a trained technique; return its form and what reading it back found."""
    lm = base.lm
    with attached(base, trial.ready) as on_base:
        own = Opened(lm, lm.template)
        measured = seen(own, made.frame, rows.examples)
        chosen = _chosen(form, replace(made, attached=on_base))
        _write(chosen, replace(made, attached=on_base), place)
    _same_prompt(place, made)
    limit = limit_of(lm.model.dtype, measured, seen(own, made.frame, rows.examples))
    where = Where(str(lm.device), _name(lm.model.dtype))
    with _load(chosen).opened(place, made, where) as opened:
        found = seen(opened, made.frame, rows.examples)
        largest = difference(measured, found, limit, trial.ready.candidate.name)
        answers = answers_of(Local(opened.lm), made.frame, rows.examples, made.max_new_tokens)
    known = {prediction.id: prediction.text for prediction in trial.unit.predictions}
    same = sum(known.get(answer.id) == answer.text for answer in answers)
    return chosen, Checked(
        rows=len(rows.examples),
        of=rows.of,
        difference=largest,
        same_answers=same if rows.answered else None,
    )


def _prompt_alone(
    rows: Rows, made: Customization, form: str | None, place: Path
) -> tuple[str, Checked]:
    """Write a technique of which nothing is trained."""
    chosen = _chosen(form, made)
    _write(chosen, made, place)
    _same_prompt(place, made)
    checked = Checked(rows=len(rows.examples), of=rows.of, difference=None, same_answers=None)
    return chosen, checked


def _write(chosen: str, made: Customization, place: Path) -> None:
    for form in {chosen: _load(chosen), PROMPT: _load(PROMPT)}.values():
        form.write(made, place)


def _same_prompt(place: Path, made: Customization) -> None:
    if prompt.read(place) != made.frame.portable():
        what = "the prompt that was written is not the one that was measured"
        raise IntegrityError(Problem(where=prompt.NAME, what=what))


def _chosen(form: str | None, made: Customization) -> str:
    """Return the form to write.

    Raises:
        UsageError: the one that was asked for cannot hold the technique.
    """
    ranked = sorted(registry.parts("export"), key=lambda name: _load(name).rank)
    if form is None:
        return next(name for name in ranked if _load(name).refusal(made) is None)
    if (reason := _load(form).refusal(made)) is None:
        return form
    raise UsageError(
        Problem(
            where="--form",
            what=f"{form} cannot hold {made.candidate.name}: {reason}",
            expected=" or ".join(name for name in ranked if _load(name).refusal(made) is None),
        )
    )


def _facts(trial: _Trial, chosen: str, base: Base | None, checked: Checked) -> Facts:
    manifest, document = trial.run.manifest() or {}, trial.run.board() or {}
    index, row = trial.ready.candidate.base, trial.row
    named = manifest["bases"][index]
    dtype, quantization = _precision(manifest, named, base)
    return Facts(
        form=chosen,
        candidate=trial.ready.candidate,
        base=OfBase(
            spec=named,
            name=bases.name_of(bases.from_json(named)),
            sha256=manifest["identity"]["base"][index],
            dtype=dtype,
            quantization=quantization,
        ),
        max_new_tokens=trial.ready.max_new_tokens,
        measured=Measured(
            task=document["task"],
            metric=document["metric"],
            **{name: row[name] for name in ("score", "low", "high", "n", "seeds")},
            seed_index=trial.seed_index,
            score_of_seed=row["score_by_seed"][trial.seed_index],
        ),
        checked=checked,
    )


def _precision(
    manifest: Mapping[str, Any], named: Any, base: Base | None
) -> tuple[str | None, str | None]:
    """Return dtype and quantization of the base's weights; of a base that is not loaded what the
    run's spec asks for."""
    if isinstance(base, Local):
        return _name(base.lm.model.dtype), base.lm.quantization
    compute = manifest["identity"]["spec"]["compute"]
    if not isinstance(named, str):
        return None, None
    return (None if compute["dtype"] == "auto" else compute["dtype"]), compute["quantization"]


def _trial(run: RunFolder, technique: str | None, seed_index: int) -> _Trial:
    """Return a trial of a row of the board.

    Raises:
        UsageError: the run is not finished; no such row, or it has no score, or no such seed.
    """
    document = run.board() if run.path.is_dir() else None
    if document is None:
        fix = "Finish it with `savile run`"
        raise UsageError(Problem(where=str(run.path), what="holds no finished run", fix=fix))
    name = technique or best_of(document)
    row = next((row for row in document["board"] if row["technique"] == name), None)
    if row is None or row["kind"] == "baseline" or row["status"] != "ok":
        raise _not_exportable(name, row, document["board"])
    unit = None
    if 0 <= seed_index < row["seeds"]:
        unit = run.read(f"trials/{unit_id(name, seed_index)}")
    if unit is None:
        raise UsageError(
            Problem(
                where="--seed",
                what=f"{name} has no such seed",
                found=str(seed_index),
                expected=f"0 to {row['seeds'] - 1}",
            )
        )
    return _Trial(run=run, row=row, unit=unit, ready=ready_of(unit), seed_index=seed_index)


def _not_exportable(
    name: str, row: Mapping[str, Any] | None, board: Sequence[Mapping[str, Any]]
) -> UsageError:
    names = [r["technique"] for r in board if r["status"] == "ok" and r["kind"] != "baseline"]
    if row is None:
        near = difflib.get_close_matches(name, names, n=1)
        what, fix = "is on no row of the board", f"Did you mean {near[0]}?" if near else ""
    elif row["kind"] == "baseline":
        what, fix = "is a baseline: there is nothing to hand over", ""
    else:
        what, fix = f"has no score ({row['status']}: {row['reason']})", ""
    expected = f"one of {', '.join(names)}" if names else ""
    return UsageError(Problem(where=name, what=what, expected=expected, fix=fix))


def _refuse_full(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        what = "is not empty" if out.is_dir() else "is a file"
        raise UsageError(Problem(where=str(out), what=what, fix="Name a new folder with --out"))


def _refuse_unknown(form: str | None) -> None:
    known = list(registry.parts("export"))
    if form is not None and form not in known:
        near = difflib.get_close_matches(form, known, n=1)
        raise UsageError(
            Problem(
                where="--form",
                what=f"no form is called {form!r}",
                expected=f"one of {', '.join(known)}",
                fix=f"Did you mean {near[0]}?" if near else "",
            )
        )


def _load(form: str) -> Form:
    made: Form = registry.load("export", form)()
    return made


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
