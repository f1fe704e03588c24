"""Several answers of one technique to each of some rows: a prompt on a base, or what a run trained.

A sample draws from a generator of its own, made from the seed, the whole chat and the sample's
number, so it does not depend on what else is answered.

Source: temperature and nucleus sampling, `lm/generate.py`. Cost: `samples` generated answers a row,
which share the pass over their prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from savile.data import Dataset
from savile.errors import Problem, UsageError
from savile.ladder.answer import Customized, best_of
from savile.ladder.bases import Till, open_base
from savile.ladder.bench import bench_of
from savile.ladder.folder import RunFolder
from savile.lm.base import Answer, Base
from savile.lm.endpoint import Endpoint
from savile.lm.endpoint.purse import Purse
from savile.lm.fitting import Fitting
from savile.predict import answer_limit, asked_of, closed
from savile.prompts.base import Frame
from savile.spec import Candidate, Spec
from savile.spec import document as yaml
from savile.spec import ladder as grammar
from savile.spec.endpoint import overruled
from savile.technique import build
from savile.types import Example


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How answers are drawn and paired."""

    technique: str | None = None
    """A prompt technique, as the ladder writes it; with `run`, a name on its board. Absent:
    zero_shot, or the best of the run."""
    run: Path | None = None
    """A finished run whose technique answers."""
    samples: int = 4
    """Answers to each row."""
    temperature: float = 1.0
    """Logits are divided by it."""
    top_p: float = 1.0
    """Draw from the fewest tokens whose odds reach it."""
    rows: int | None = None
    """At most this many train rows, chosen by the hash of their id."""
    per_row: int = 1
    """Most pairs of one row, the greatest differences of score first."""

    def __post_init__(self) -> None:
        wrong = [
            ("samples", self.samples >= 2, "at least 2"),
            ("temperature", 0.0 < self.temperature < float("inf"), "above 0"),
            ("top_p", 0.0 < self.top_p <= 1.0, "above 0, at most 1"),
            ("rows", self.rows is None or self.rows >= 1, "at least 1"),
            ("per_row", self.per_row >= 1, "at least 1"),
        ]
        problems = [
            Problem(where=name, what="is out of range", found=str(getattr(self, name)), expected=e)
            for name, good, e in wrong
            if not good
        ]
        if problems:
            raise UsageError(problems)


class Answering(NamedTuple):
    """What answers: a base with whatever is attached, and how it is asked."""

    base: Base
    frame: Frame
    limit: int
    name: str


@contextmanager
def answering(
    spec: Spec,
    dataset: Dataset,
    drawing: Drawing,
    rows: Sequence[Example],
    answers: Path | None = None,
) -> Iterator[Answering]:
    """Yield what answers `rows`: its weights are attached while the block runs.

    Args:
        spec: data, base and seed.
        dataset: of the spec.
        drawing: who answers.
        rows: every question it will be asked.
        answers: folder of the answers that endpoints gave; None keeps none. A technique of a run
            has that of its run.

    Raises:
        UsageError: no such technique or run, or one that has to be trained first.
    """
    if drawing.run is not None:
        name = drawing.technique or best_of(_board(drawing.run))
        customized = Customized(drawing.run, name)
        with customized.asking(rows) as (base, frame, limit):
            yield Answering(base, frame, limit, name)
        return
    candidate = _prompted(spec, dataset, drawing.technique or "zero_shot")
    till = Till(Purse(spec.budget.usd), answers)
    base = open_base(spec.every_base[candidate.base], spec.folder, spec.compute, till)
    bench = bench_of(spec, dataset, base)
    technique, place = build(candidate, bench.frame), spec.proposing_base
    other = None if place is None else spec.every_base[place]
    proposer = None if other is None else open_base(other, spec.folder, spec.compute, till)
    fitting = Fitting(base, proposer=proposer)
    frame = technique.frame(bench.frame, bench.train, bench.seed_of(0, "prompt"), fitting)
    limit = answer_limit(base, frame, bench.train)
    yield Answering(base, bench.located(frame, rows), limit, candidate.name)


def _board(run: Path) -> dict[str, Any]:
    document = RunFolder(run).board() if run.is_dir() else None
    if document is None:
        fix = "Finish it with `savile run`"
        raise UsageError(Problem(where=str(run), what="holds no finished run", fix=fix))
    return document


def _prompted(spec: Spec, dataset: Dataset, written: str) -> Candidate:
    """Return the prompt technique of a name on the ladder, or as the ladder writes it."""
    gives, n_train = dataset.gives, len(dataset.train)
    named = [one for one in spec.candidates(gives, n_train) if one.name == written]
    candidate, *_ = named or _parsed(spec, written).candidates(gives, n_train)
    if candidate.deltas:
        raise UsageError(
            Problem(
                where="--technique",
                what=f"'{candidate.name}' has to be trained before it answers",
                fix="Give the run that trained it: --run DIR --technique NAME",
            )
        )
    if candidate.reason is not None:
        what = f"'{candidate.name}' cannot run: it {candidate.reason}"
        raise UsageError(Problem(where="--technique", what=what))
    return candidate


def _parsed(spec: Spec, written: str) -> Spec:
    """Return the spec with a ladder of what is written."""
    item = yaml.parse(written, "--technique", fixed_place=True)
    _, faults = grammar.parse([item.value], ("--technique",))
    problems = [
        Problem(where="--technique", what=f.what, found=f.found, expected=f.expected, fix=f.fix)
        for f in faults
    ]
    if item.problems or problems:
        raise UsageError([*item.problems, *problems])
    return spec.model_copy(update={"ladder": [item.value]})


def draw(
    model: Answering,
    rows: Sequence[Example],
    drawing: Drawing,
    seed: int,
    on_rows: Callable[[int], None],
) -> list[list[Answer]]:
    """Return the samples of every row, in their order.

    Args:
        model: what answers.
        rows: the questions; all fit the context.
        drawing: how many samples, and how they are drawn.
        seed: of all of them.
        on_rows: told how many rows are answered.

    Raises:
        UsageError: the endpoint's `request` draws otherwise.
    """
    frame = model.frame
    _refuse_other_draws(model.base, drawing)
    asked = replace(
        asked_of(frame, model.limit),
        neutral=tuple(frame.neutral(row) for row in rows) if closed(frame) else (),
        n=drawing.samples,
        temperature=drawing.temperature,
        top_p=drawing.top_p,
        seed=seed,
    )
    found: list[list[Answer]] = [[] for _ in rows]
    with closing(model.base.answers([frame.messages(row) for row in rows], asked)) as groups:
        for group in groups:
            for row, answer in group:
                found[row].append(answer)
            on_rows(sum(map(bool, found)))
    return found


def _refuse_other_draws(base: Base, drawing: Drawing) -> None:
    if not isinstance(base, Endpoint):
        return
    decided = {"temperature": drawing.temperature, "top_p": drawing.top_p, "seed": None}
    problems = [
        Problem(
            where=f"base.request.{field}",
            what="is set, and every sample is drawn as --temperature and --top-p say, with a seed "
            "of its own",
            found=str(base.base.request[field]),
            fix="Remove it from the section",
        )
        for field in overruled(base.base, decided)
    ]
    if problems:
        raise UsageError(problems)


def was_cut(model: Answering, row: Example, answer: Answer) -> bool:
    """Return whether an answer ended at the limit or at the end of the context."""
    if answer.label is not None:
        return False
    room = model.limit
    if model.base.context is not None:
        prompt = model.base.prompt_tokens(model.frame.messages(row))
        room = min(room, model.base.context - prompt)
    return answer.completion_tokens >= room
