"""One run: data, plan, search and training on dev, the sealed test once, then board and verdict.

Each unit of work is committed to the run folder before the next begins, and what follows is read
back from there: a run that was killed at any moment goes on where it was, to the same board. The
sealed test is opened when every technique is trained, and answers the same rows for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from savile import store
from savile.ladder import asking, board, progress, space
from savile.ladder.baselines import baselines
from savile.ladder.bases import bases_of, name_of, paid_by
from savile.ladder.bench import also_of, bench_of
from savile.ladder.budget import make_plan
from savile.ladder.clock import Clock
from savile.ladder.costs import costs_of, prices_of
from savile.ladder.folder import Unit, unit_id
from savile.ladder.judging import Verdicts, judge, panel_of
from savile.ladder.learning import ranking_of, starts_of
from savile.ladder.measure import measure
from savile.ladder.plan import Cell, from_json, to_json
from savile.ladder.prepare import Choice, Prepared, prepare
from savile.ladder.progress import Phase
from savile.ladder.stopping import field_of, told
from savile.ladder.story import Story
from savile.ladder.sweeps import sweeps_of
from savile.ladder.teacher import against_teacher, teaching_of
from savile.ladder.training import Training
from savile.ladder.trial import Outcome
from savile.ladder.verdict import verdict
from savile.spec import Spec
from savile.types import Example

SCHEMA_VERSION = 1
Board = dict[str, Any]


def run(
    spec: Spec,
    out: Path | None = None,
    *,
    choice: Choice | None = None,
    on_progress: progress.Listener = progress.ignore,
) -> Board:
    """Measure every technique of `spec` and return the board document.

    Args:
        spec: a checked spec.
        out: the run folder; an unfinished run of the same spec in it goes on.
        choice: which of the spec's candidates run.
        on_progress: told often; an exception it raises stops the run, which can go on later.

    Raises:
        NothingWorkedError: no technique has a score; the board is written all the same.
    """
    return execute(prepare(spec, out, choice), on_progress)


def execute(prepared: Prepared, on_progress: progress.Listener = progress.ignore) -> Board:
    """Do what is still to do in a prepared folder and return the board document."""
    folder = prepared.folder
    if folder.path.is_dir() and (finished := folder.board()) is not None:
        return board.something_worked(finished)
    folder.refuse_strangers()
    with store.run_lock(folder.path):
        folder.begin(prepared.identity, prepared.facts, prepared.spec.resolved())
        folder.list_rejected([row._asdict() for row in prepared.dataset.rejected])
        document = folder.finish(_Run(prepared, on_progress).result())
    return board.something_worked(document)


class _Run:
    """A run in progress: the loaded base, the plan, the clock."""

    def __init__(self, prepared: Prepared, listener: progress.Listener) -> None:
        self.prepared = prepared
        self.folder = prepared.folder
        self.spec = prepared.spec
        self.clock = Clock(data=prepared.data_seconds)
        self.work = progress.Work(1.0, listener)
        self.work.say("load", ", ".join(map(name_of, self.spec.every_base)))
        with self.clock.of("load"):
            self.bench = bench_of(self.spec, prepared.dataset, *bases_of(self.spec, self.folder))
            self.bench = replace(self.bench, teaching=teaching_of(self.spec, self.bench))
            self.bench = replace(self.bench, reward_function=prepared.reward)
        self.device = next((b.device for b in self.bench.bases if b.device != "cpu"), "cpu")
        self.folder.same_device(self.device)
        known = [*prepared.candidates, *filter(None, [self.spec.teaching_candidate])]
        self.candidates = {candidate.name: candidate for candidate in known}
        self.cells = self._plan()
        space.check(self.folder, self.cells, prepared.candidates, self.bench, self._n_test)
        self.panel = panel_of(prepared, self.bench)
        opponent = None if self.panel is None else self.panel.opponent
        self.field = field_of(self.spec.budget.race, self.bench, self.candidates, opponent)
        self.training = Training(
            bench=self.bench,
            ranking=ranking_of(self.bench),
            work=self.work,
            commit=self._unit,
            candidates=self.candidates,
            n_test=self._n_test,
            raced=self.field is not None,
        )
        passes = self.training.passes
        self.work.total = sum(passes(cell, cell.tries) for cell in self.cells) or 1.0
        self.work.total += (
            0.0 if self.panel is None else self.panel.passes(self._n_test, self.cells)
        )

    def result(self) -> Board:
        """Do everything that is still to do; return the board document."""
        stories = self._trained()
        if (teacher := self.spec.teaching_candidate) is not None:
            cell = Cell(technique=teacher.name, kind="prompt", seeds=1)
            stories.append(replace(self.training, raced=False).whole(cell))
        test = self._open_test()
        stories = [self._measured(story, test) for story in stories]
        said = judge(self.panel, stories, test, self._unit, self.work.at)
        return self._document(stories, test, said)

    # ── plan ─────────────────────────────────────────────────────────────────────────────────

    def _plan(self) -> tuple[Cell, ...]:
        file = self.folder.path / "plan.json"
        if not file.is_file():
            self.work.say("plan", "the budget")
            with self.clock.of("load"):
                cells = make_plan(self.spec, self.prepared.candidates, self.bench, self._n_test)
            store.write_json(file, to_json(cells))
        return from_json(store.read_json(file))

    @property
    def _n_test(self) -> int:
        return len(self.prepared.dataset.test)

    # ── training ─────────────────────────────────────────────────────────────────────────────

    def _trained(self) -> list[Story]:
        """Train every technique, or let them race."""
        if self.field is None:
            return [self.training.whole(cell) for cell in self.cells]
        begun = [self.training.begun(cell) for cell in self.cells]
        stories = self.field.finish(begun, self.training.further)
        stopped = (story for story in stories if story.stopped is not None)
        self.work.total -= sum(map(self.training.unspent, stopped))
        return stories

    # ── the sealed test ──────────────────────────────────────────────────────────────────────

    def _open_test(self) -> tuple[Example, ...]:
        """Open the test; weights are frozen, so going on after a kill is not a second opening."""
        self.work.say("predict", "the sealed test")
        sealed = self.prepared.dataset.test
        if not self.folder.events("test_opened"):
            self.folder.record("test_opened", rows=self._n_test, ids_hash=sealed.ids_hash)
        self._count_opening()
        return sealed.open("every technique is trained")

    def _count_opening(self) -> int:
        sealed, identity = self.prepared.dataset.test, self.prepared.identity
        return self.folder.count_opening(sealed.ids_hash, identity)

    def _measured(self, story: Story, test: Sequence[Example]) -> Story:
        if story.trouble is not None or story.stopped is not None or not story.trials:
            return story
        name = story.cell.technique
        units = []
        for index, trial in enumerate(story.trials):
            unit, label = f"measured/{unit_id(name, index)}", self._label(name, index)
            work = self._measuring(test, trial)
            units.append(self._unit("predict", unit, label, len(test), work))
        return replace(story, measured=units)

    def _measuring(self, test: Sequence[Example], trial: Unit) -> Callable[[], Outcome]:
        return lambda: measure(self.bench, test, trial, self.work.at)

    # ── board ────────────────────────────────────────────────────────────────────────────────

    def _document(self, stories: Sequence[Story], test: Sequence[Example], said: Verdicts) -> Board:
        self.work.say("done", "the board")
        dataset, spec, scale = self.prepared.dataset, self.spec, self._scale(test)
        lines = [
            *(
                board.line_of_baseline(one, len(dataset.train), scale)
                for one in baselines(dataset.train, test, closed=bool(scale.labels))
            ),
            *(board.line_of(story, self._scale(test, story.cell.technique)) for story in stories),
        ]
        if (teacher := spec.teacher) is not None:
            name, metric = teacher.candidate.name, self.bench.metric
            lines = against_teacher(lines, name, teacher.margin, metric, spec.seed)
        lines = said.beside(lines)
        compared = [line.measured for line in lines if line.measured is not None]
        concluded = verdict(
            compared,
            self.bench.metric,
            goal=spec.goal,
            seed=spec.seed,
            costs=costs_of([line.row for line in lines], scale.prices),
            improving=[line.row.technique for line in lines if line.improving],
            starts=starts_of(
                [line.row for line in lines],
                {line.row.technique: line.fell for line in lines},
                self.candidates.values(),
            ),
            sweeps=sweeps_of(self.prepared.candidates),
        )
        asked = [*(story.results for story in stories), said.results]
        return {
            "schema_version": SCHEMA_VERSION,
            "task": spec.task,
            "base": ", ".join(map(name_of, spec.bases or (spec.base,))),
            "metric": spec.metric_name,
            "n_test": len(test),
            "seeds": spec.seeds,
            "budget": {
                "train_examples": max((cell.share for cell in self.cells), default=0),
                "seconds": spec.budget.seconds,
            },
            "test_openings": self._count_opening(),
            "data": {
                "train": len(dataset.train),
                "dev": len(dataset.dev),
                "dev_judging": len(self.bench.dev),
                "test": len(test),
                "fates": [dict(fate) for fate in dataset.fates],
                "notes": self.prepared.notes,
            },
            "board": [asdict(row) for row in board.ordered([line.row for line in lines])],
            "verdict": asdict(told(concluded, stories, spec.budget.race)),
            "judge": said.document(),
            "endpoint": asking.summary(asked, paid_by(self.folder)),
            "seconds": self.clock.seconds(),
            "machine": {**self.prepared.facts["machine"], "device": self.device},
            "versions": dict(self.prepared.identity["versions"]),
        }

    def _scale(self, test: Sequence[Example], technique: str | None = None) -> board.Scale:
        spec = self.spec
        base = self.bench.bases[self.candidates[technique].base if technique else 0]
        timed = spec.budget.seconds is not None
        return board.Scale(
            metric=self.bench.metric,
            test=test,
            labels=self.bench.frame.labels,
            base=base.name,
            base_parameters=base.n_parameters,
            prices=prices_of(spec, base.device),
            seed=spec.seed,
            budget="budget.seconds" if timed else "budget.train_examples",
            note=base.note,
            remote="weights" not in base.gives,
            also=also_of(spec),
        )

    # ── units ────────────────────────────────────────────────────────────────────────────────

    def _unit(
        self, phase: Phase, unit: str, label: str, passes: float, work: Callable[[], Outcome]
    ) -> Unit:
        """Return a committed unit; run and commit it first when it is still to do."""
        self.work.say(phase, label)
        done, line = self.folder.read(unit), None
        if done is None:
            outcome = work()
            done = self.folder.commit(unit, outcome.result, outcome.predictions, outcome.files)
            line = f"{label}: {progress.told(done.result)}"
        else:
            self.clock.earlier += done.result["unit_seconds"]
        self.clock.add(phase, done.result["unit_seconds"])
        self.work.finish(passes, line)
        return done

    def _label(self, technique: str, index: int) -> str:
        return technique if self.spec.seeds == 1 else f"{technique}, seed {index}"
