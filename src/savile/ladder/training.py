"""What a run does for one technique before the test is opened: its search, then a trial a seed.

Every trial is a unit that is committed once, so whoever asks again gets what is in the run folder.
In a race a technique first runs short (`race.py`): pieces of the search leave their answers, and a
prompt answers the first dev rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from savile.ladder.bench import Bench
from savile.ladder.folder import Unit, unit_id
from savile.ladder.learning import ranking_for
from savile.ladder.plan import Cell
from savile.ladder.progress import PASSES_TRAINED_ROW, Phase, Work
from savile.ladder.race import first_rows
from savile.ladder.search import Ranking, search
from savile.ladder.story import Story
from savile.ladder.trial import Attempt, Outcome, run_trial
from savile.spec import Candidate

Commit = Callable[[Phase, str, str, float, Callable[[], Outcome]], Unit]
"""Returns a committed unit; runs and commits it first when it is still to do."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """The search and the trials of every technique."""

    bench: Bench
    ranking: Ranking
    work: Work
    commit: Commit
    candidates: Mapping[str, Candidate]
    n_test: int
    raced: bool = False

    def passes(self, cell: Cell, n_tried: int) -> float:
        """Return the row passes of a technique whose search tries so many learning rates."""
        predicted = cell.seeds * (len(self.bench.dev) + self.n_test)
        searched = n_tried * cell.piece if cell.seeds else 0
        trained = searched + cell.seeds * cell.final_examples(n_tried)
        return predicted + trained * PASSES_TRAINED_ROW

    def unspent(self, story: Story) -> float:
        """Return the row passes that a stopped technique does without."""
        cell, left = story.cell, story.cell.seeds - len(story.trials)
        predicted = left * len(self.bench.dev) + cell.seeds * self.n_test
        trained = left * cell.final_examples(len(story.searched))
        return predicted + trained * PASSES_TRAINED_ROW

    def whole(self, cell: Cell) -> Story:
        """Do everything for one technique."""
        story = self.begun(cell)
        while story.left:
            story = self.further(story)
        return story

    def begun(self, cell: Cell) -> Story:
        """Search the learning rate of a tuned technique; in a race, run any technique short."""
        candidate = self.candidates[cell.technique]
        story = Story(cell=cell, settings=candidate.settings)
        if cell.reason is not None:
            return story
        if cell.kind == "prompt":
            return self._first_answers(story) if self.raced else story
        pieces: list[Unit] = []

        def attempt(piece: int, rate: float) -> Mapping[str, Any]:
            pieces.append(self._piece(candidate, cell, piece, rate))
            return pieces[-1].result

        found = search(cell, attempt, ranking_for(self.ranking, candidate))
        n_tried = len(found.results)
        self.work.total += self.passes(cell, n_tried) - self.passes(cell, cell.tries)
        story = replace(story, searched=found.results, found=found)
        if found.learning_rate is None:
            return story
        story = replace(story, settings={**story.settings, **found.settings})
        if not self.raced:
            return story
        short = [p for p in pieces if p.result["learning_rate"] == found.learning_rate]
        story = story if short else self.further(story)  # what is not searched has no short run
        return replace(story, start=(short or story.trials)[0].predictions)

    def further(self, story: Story) -> Story:
        """Run the next seed of a technique."""
        cell, index, found = story.cell, len(story.trials), story.found
        candidate = self.candidates[cell.technique]
        examples = cell.final_examples(len(story.searched)) if cell.kind == "tuned" else 0
        attempt = Attempt(
            candidate=candidate,
            seed_index=index,
            learning_rate=found.learning_rate or 0.0,
            reached=found.reached,
            examples=examples,
            begun=None if index else story.short,
            on_passes=self.work.at,
        )
        name = cell.technique
        label = name if cell.seeds == 1 else f"{name}, seed {index}"
        passes = examples * PASSES_TRAINED_ROW + len(self.bench.dev)
        phase: Phase = "train" if examples else "predict"
        unit = f"trials/{unit_id(name, index)}"
        done = self.commit(phase, unit, label, passes, lambda: run_trial(self.bench, attempt))
        return replace(story, trials=[*story.trials, done])

    def _piece(self, candidate: Candidate, cell: Cell, piece: int, rate: float) -> Unit:
        attempt = Attempt(
            candidate=candidate,
            seed_index=0,
            learning_rate=rate,
            examples=cell.piece,
            search=True,
            raced=self.raced,
            on_passes=self.work.at,
        )
        unit = f"trials/{unit_id(candidate.name, 0, piece)}"
        label = f"{candidate.name}, learning rate {rate:g}"
        passes = cell.piece * PASSES_TRAINED_ROW
        return self.commit("search", unit, label, passes, lambda: run_trial(self.bench, attempt))

    def _first_answers(self, story: Story) -> Story:
        """Let a prompt answer the first dev rows."""
        name, few = story.cell.technique, first_rows(len(self.bench.dev))
        bench = replace(self.bench, dev=self.bench.dev[:few])
        attempt = Attempt(candidate=self.candidates[name], seed_index=0, on_passes=self.work.at)
        unit, label = f"trials/{unit_id(name, 0, 0)}", f"{name}, {few} dev rows"
        short = self.commit("predict", unit, label, few, lambda: run_trial(bench, attempt))
        return replace(story, searched=[short.result], short=short, start=short.predictions)
