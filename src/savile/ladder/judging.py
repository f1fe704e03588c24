"""A judge beside the board: every technique's answers before it, against one opponent.

After the sealed test was answered, each technique and seed is compared row by row with the wanted
answers or with one technique. Before that the judge itself is looked at: made pairs whose better
answer is known, and pairs that people judged. Each of these is a unit of the run, committed once.

Verdicts stand beside the score (`compared.judge`); order and verdict of the board are the metric's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from savile import stats
from savile.data.human_verdicts import HumanVerdict
from savile.judge import asking, bias, made, obedience, words
from savile.judge.asking import Judged
from savile.judge.itself import itself
from savile.judge.question import VERSION, Pair
from savile.ladder.bench import Bench
from savile.ladder.board import Line
from savile.ladder.folder import Unit, unit_id
from savile.ladder.plan import Cell
from savile.ladder.prepare import Prepared
from savile.ladder.progress import Phase
from savile.ladder.story import Story
from savile.ladder.trial import Outcome, guarded
from savile.lm.base import Base
from savile.meter import Meter
from savile.spec.endpoint import EndpointSection
from savile.spec.judge import REFERENCE, JudgeSection
from savile.stats import Interval
from savile.types import Example, Prediction

PASSES: Final = 2.0
"""Row passes of a pair: one an order."""
Tell = Callable[[float], None]


class Commit(Protocol):
    """Return a committed unit of the run; do and commit its work first when it is still to do."""

    def __call__(
        self, phase: Phase, unit: str, label: str, passes: float, work: Callable[[], Outcome]
    ) -> Unit:
        """Take a phase, the unit's folder, its name for people, its row passes and its work."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A judge and what it has to say something about."""

    section: JudgeSection
    base: Base
    opponent: str | None
    """The technique that others are compared with; None for the wanted answers."""
    people: Sequence[HumanVerdict]
    judged_bases: Sequence[str | EndpointSection] = ()
    """What gave the answers."""

    def judge(
        self, stories: Sequence[Story], test: Sequence[Example], commit: Commit, tell: Tell
    ) -> Verdicts:
        """Judge everything that is still to judge.

        Args:
            stories: every measured technique.
            test: the opened test.
            commit: of the run.
            tell: told how many row passes of a unit are done; may raise InterruptedRun.
        """

        def unit(name: str, label: str, pairs: Sequence[Pair]) -> Unit:
            work = self._work(pairs, tell)
            return commit("judge", f"judged/{name}", label, len(pairs) * PASSES, work)

        probes = unit("probes", "made pairs", made.pairs())
        people = unit("people", "pairs that people judged", self._people()) if self.people else None
        rows = chosen(test, self.section.rows)
        other = next((s for s in stories if s.cell.technique == self.opponent), None)
        judged = {}
        if self.opponent is None or (other is not None and other.complete):
            for story in (s for s in stories if s.complete and s is not other):
                name = story.cell.technique
                judged[name] = [
                    unit(
                        unit_id(name, seed),
                        f"{name}, seed {seed}" if len(story.measured) > 1 else name,
                        _pairs(rows, own, None if other is None else _of(other, seed)),
                    )
                    for seed, own in enumerate(story.measured)
                ]
        return Verdicts(panel=self, probes=probes, people=people, judged=judged, rows=len(rows))

    def passes(self, n_test: int, cells: Sequence[Cell]) -> float:
        """Return the row passes of judging all cells of a plan."""
        compared = min(n_test, self.section.rows) * sum(cell.seeds for cell in cells)
        return (compared + len(made.pairs()) + len(self.people)) * PASSES

    def _people(self) -> list[Pair]:
        return [Pair(row=p.row, question=p.input, a=p.a, b=p.b) for p in self.people]

    def _work(self, pairs: Sequence[Pair], tell: Tell) -> Callable[[], Outcome]:
        def session() -> Outcome:
            criterion = self.section.criterion
            found = asking.judge(self.base, criterion, pairs, lambda done: tell(done * PASSES))
            return Outcome(result={"status": "ok", **found.to_json()})

        def work() -> Outcome:
            with Meter(self.base) as meter:
                outcome = guarded(session)
            spent = {"unit_seconds": meter.seconds, **self.base.tally()}
            return replace(outcome, result={**outcome.result, **spent})

        return work


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """What a judge said about a run; nothing at all without one."""

    panel: Panel | None = None
    probes: Unit | None = None
    people: Unit | None = None
    judged: Mapping[str, Sequence[Unit]] = field(default_factory=dict)
    """By technique, one unit a seed."""
    rows: int = 0
    """Test rows of each technique that were judged."""

    @property
    def results(self) -> list[Mapping[str, Any]]:
        """What every unit said."""
        units = [self.probes, self.people, *(unit for of in self.judged.values() for unit in of)]
        return [unit.result for unit in units if unit is not None]

    def beside(self, lines: Sequence[Line]) -> list[Line]:
        """Return the board's lines with the judge's value beside the score of each."""
        return [
            replace(line, row=replace(line.row, compared={**line.row.compared, "judge": value}))
            if (value := self._value(line.row.technique)) is not None
            else line
            for line in lines
        ]

    def document(self) -> dict[str, Any] | None:
        """Return the judge's section of the board document; None without a judge."""
        panel = self.panel
        if panel is None:
            return None
        pooled = [one for units in self.judged.values() for unit in units for one in _judged(unit)]
        people = _judged(self.people)
        labels = [person.label for person in panel.people] if people else []
        agreement = stats.share(
            [float(one.heard == label) for one, label in zip(people, labels, strict=True)],
            [1.0] * len(people),
            [one.row for one in people],
        )
        kappa = obedience.kappa(labels, people) if people else None
        unread = sum(one.heard == "unread" for one in people)
        seen = bias.of([*pooled, *people])
        obeys = obedience.of(_judged(self.probes)) if _judged(self.probes) else None
        said = [
            f"{panel.base.name} judged pairs of answers, each in both orders; it never ranks.",
            *self._wins(),
            *itself(panel.section, panel.judged_bases),
            *words.of_bias(seen),
            *([] if obeys is None else words.of_obedience(obeys)),
            words.of_people(len(people), agreement, kappa, unread),
            *(f"Not judged: {trouble}." for trouble in self._troubles()),
        ]
        return {
            "base": panel.base.name,
            "criterion": panel.section.criterion,
            "against": panel.opponent or REFERENCE,
            "prompt_version": VERSION,
            "rows": self.rows,
            "bias": {name: as_json(value) for name, value in seen._asdict().items()},
            "obedience": None if obeys is None else _obedience_json(obeys),
            "people": {
                "pairs": len(people),
                "unread": unread,
                "agreement": as_json(agreement),
                "kappa": as_json(kappa),
            },
            "techniques": {
                name: {
                    "wins": self._value(name),
                    "alike": as_json(bias.alike([j for unit in units for j in _judged(unit)])),
                }
                for name, units in self.judged.items()
            },
            "usd": _usd(self.results),
            "seconds": sum(result["unit_seconds"] for result in self.results),
            "text": "\n".join(said),
        }

    def _value(self, technique: str) -> dict[str, float] | None:
        seeds = [_judged(unit) for unit in self.judged.get(technique, ())]
        if not seeds or not all(seeds):
            return None
        found = stats.mean_of_seeds([[one.value for one in seed] for seed in seeds])
        return {
            "value": found.score,
            "low": found.low,
            "high": found.high,
            "n": float(len(seeds[0])),
        }

    def _wins(self) -> list[str]:
        """Return whom it prefers, in one sentence."""
        told = []
        for name in self.judged:
            if (value := self._value(name)) is not None:
                wins = words.percent(Interval(value["value"], value["low"], value["high"]))
                told.append(f"{name} in {wins}")
        if self.panel is None or not told:
            return []
        whom = self.panel.opponent or "the wanted answers"
        return [
            f"Against {whom}, on {self.rows} test rows, it prefers {', '.join(told)} (ties half)."
        ]

    def _troubles(self) -> list[str]:
        if self.panel is not None and self.panel.opponent is not None and not self.judged:
            return [f"{self.panel.opponent}, the opponent, has no score, or nothing else has"]
        return sorted({str(r["reason"]) for r in self.results if r["status"] != "ok"})


def panel_of(prepared: Prepared, bench: Bench) -> Panel | None:
    """Return the judge of a run, None without one."""
    spec = prepared.spec
    if spec.judge is None:
        return None
    return Panel(
        section=spec.judge,
        base=bench.bases[spec.judging_base],
        opponent=spec.opponent(prepared.candidates),
        people=prepared.people,
        judged_bases=spec.ladder_bases,
    )


def judge(
    panel: Panel | None,
    stories: Sequence[Story],
    test: Sequence[Example],
    commit: Commit,
    tell: Tell,
) -> Verdicts:
    """Return what the judge of a run says (`Panel.judge`); nothing without one."""
    return Verdicts() if panel is None else panel.judge(stories, test, commit, tell)


def chosen(test: Sequence[Example], most: int) -> list[Example]:
    """Return the test rows that are judged, in their order: those with the lowest ids.

    An id is a hash of its row, so they are a random sample.
    """
    kept = {row.id for row in sorted(test, key=lambda row: row.id)[:most]}
    return [row for row in test if row.id in kept]


def as_json(found: Interval | None) -> dict[str, float] | None:
    """Return an interval as the JSON of a board."""
    if found is None:
        return None
    return {"value": found.score, "low": found.low, "high": found.high}


def _of(story: Story, seed: int) -> Unit:
    """Return what an opponent of fewer seeds answered when it is another's turn."""
    return story.measured[seed % len(story.measured)]


def _pairs(rows: Sequence[Example], own: Unit, other: Unit | None) -> list[Pair]:
    by_id = {p.id: p for p in own.predictions}
    of_other = {p.id: p for p in other.predictions} if other is not None else {}
    return [
        Pair(
            row=row.id,
            question=row.input,
            a=by_id[row.id].answer,
            b=_wanted(row, by_id[row.id]) if other is None else of_other[row.id].answer,
        )
        for row in rows
    ]


def _wanted(row: Example, own: Prediction) -> str:
    """Return the wanted answer, of several the one that was given."""
    given = (own.answer or "").strip()
    return next((text for text in row.accepted if text.strip() == given), row.output)


def _judged(unit: Unit | None) -> tuple[Judged, ...]:
    """Return the verdicts of a unit, none of one that failed."""
    if unit is None or unit.result["status"] != "ok":
        return ()
    return asking.from_json(unit.result).judged


def _usd(results: Sequence[Mapping[str, Any]]) -> float | None:
    paid = [result["usd"] for result in results if result.get("usd") is not None]
    return sum(paid) if paid else None


def _obedience_json(found: obedience.Obedience) -> dict[str, Any]:
    figures = found._asdict()
    by_name = figures.pop("by_instruction")
    return {
        **{name: as_json(value) for name, value in figures.items()},
        "by_instruction": {name: as_json(value) for name, value in by_name.items()},
    }
