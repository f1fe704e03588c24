"""A race over the techniques of a run, and what is said of those that it stopped.

A stopped technique stands on the board with its dev score and what it had of its budget, and with
no test score: scores of the test are those of whole budgets. Its budget is counted in presentations
where it is trained, in answered dev rows where it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from savile.ladder.bench import Bench
from savile.ladder.families import family_of
from savile.ladder.race import Race, Runner, first_rows
from savile.ladder.story import Stopped, Story
from savile.ladder.task import scores
from savile.metrics.base import Array
from savile.spec import Candidate
from savile.types import Prediction, Verdict


@dataclass(frozen=True, kw_only=True)
class Field:
    """The techniques of a run as a race sees them."""

    race: Race
    bench: Bench
    candidates: dict[str, Candidate]

    def finish(self, stories: Iterable[Story], further: Callable[[Story], Story]) -> list[Story]:
        """Run whole seeds as long as the race asks for one; mark what it stopped.

        Args:
            stories: every technique after its short run.
            further: runs the next seed of a technique.
        """
        by_name = {story.cell.technique: story for story in stories}
        while (name := self.race.next(self.runners(by_name.values()))) is not None:
            by_name[name] = further(by_name[name])
        runners = {runner.name: runner for runner in self.runners(by_name.values())}
        return [
            self._stopped(story, runners[name], list(runners.values()))
            if name in runners and story.left
            else story
            for name, story in by_name.items()
        ]

    def runners(self, stories: Iterable[Story]) -> list[Runner]:
        """Return the techniques that can go on, by the rows of dev."""
        return [
            Runner(
                name=story.cell.technique,
                family=family_of(self.candidates[story.cell.technique]),
                start=self._rows(story.start),
                whole=tuple(self._rows(trial.predictions) for trial in story.trials),
                seeds=story.cell.seeds,
                learns=story.cell.kind == "tuned",
                varies=story.cell.stochastic,
            )
            for story in stories
            if story.start and story.trouble is None
        ]

    def _rows(self, answers: Sequence[Prediction]) -> Array:
        """Return the score of each dev row that was answered: float64 [n]."""
        bench, given = self.bench, [answer.answer for answer in answers]
        return scores(bench.metric, bench.dev[: len(given)], given, bench.frame.labels)

    def _stopped(self, story: Story, runner: Runner, runners: Sequence[Runner]) -> Story:
        chance = self.race.chance(runner, runners)
        ahead = next(r for r in runners if r.name == chance.leader)
        show = "{:.3f}" if self.race.top <= 1 else "{:.1f}"
        rival = f"{ahead.name} ({show.format(ahead.score)} on dev)"
        if chance.most < 0:
            why = (
                f"with all of it, it would stay at least {show.format(-chance.most)} below {rival}"
            )
        else:
            why = f"with all of it, it could be at most {show.format(chance.most)} above {rival}"
        n, of = len(runner.rows), len(self.bench.dev)
        rows = f"{n} dev rows" if n == of else f"{n} of {of} dev rows"
        at = f"at {100 * self._spent(story):.0f} % of its budget"
        reason = f"{at}, with {show.format(runner.score)} on {rows}: {why}"
        return replace(story, stopped=Stopped(reason, runner.score))

    def _spent(self, story: Story) -> float:
        """Return the part of the whole budget that a technique had."""
        cell, tried, done = story.cell, len(story.searched), len(story.trials)
        if cell.kind == "prompt":
            n = len(self.bench.dev)
            return (done * n or first_rows(n)) / (cell.seeds * n)
        final = cell.final_examples(tried)
        return (tried * cell.piece + done * final) / (tried * cell.piece + cell.seeds * final)


def field_of(
    margin: float | None, bench: Bench, candidates: dict[str, Candidate], opponent: str | None
) -> Field | None:
    """Return the field of a run.

    Args:
        margin: of the race; None for none.
        bench: of the run.
        candidates: by name.
        opponent: what a judge holds the others against; it is not stopped.
    """
    if margin is None:
        return None
    kept = frozenset(filter(None, [opponent]))
    race = Race(margin=margin, top=bench.metric.top, kept=kept)
    return Field(race=race, bench=bench, candidates=candidates)


def told(verdict: Verdict, stories: Sequence[Story], margin: float | None) -> Verdict:
    """Return a verdict that names the techniques that were stopped."""
    names = [story.cell.technique for story in stories if story.stopped is not None]
    if margin is None or not names:
        return verdict
    which = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    sentence = (
        "Stopped early and not measured on the test, for none could beat the best on dev by more "
        f"than {margin:g} (budget.race): {which}."
    )
    return replace(verdict, text=f"{verdict.text}\n{sentence}")
