"""The verdict in plain words: who won, how sure that is, who is tied, what would tell more.

The numbers come from `standing.py`; here they become sentences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from savile.ladder.standing import (
    ENOUGH_ROWS,
    TOO_MANY_ROWS,
    Pair,
    Standing,
    more_rows,
    stand,
)
from savile.ladder.sweeps import Sweep, what_paid
from savile.metrics.base import Metric
from savile.stats import (
    ALPHA,
    Measured,
    Resampled,
    difference_of_these,
    resample,
)
from savile.types import Verdict

MORE_SEEDS = "set `seeds: 3`"


LEARNED: Final[Mapping[bool | None, str]] = {
    False: "Learned nothing, for the dev loss did not fall",
    True: "Learned nothing that this test can show, though the dev loss fell",
    None: "Learned nothing that this test can show",
}
"""What is said of techniques no better than their start, by whether their dev loss fell."""


class Costs(NamedTuple):
    """What techniques cost, all counted in the same thing."""

    counted: str
    """In words that follow `cheapest in`: `FLOPs for training and the first 1,000 requests`."""
    by_name: Mapping[str, float]


class Start(NamedTuple):
    """What a tuned technique is held against to say whether it learned."""

    technique: str
    against: str | None
    """The row of its prompt untuned, else of a constant answer; None without either."""
    fell: bool | None
    """Whether training lowered its dev loss; None where that is not known, as of a reward."""


def verdict(
    measured: Sequence[Measured],
    metric: Metric,
    *,
    goal: float | None = None,
    seed: int = 0,
    costs: Costs | None = None,
    improving: Sequence[str] = (),
    starts: Sequence[Start] = (),
    sweeps: Sequence[Sweep] = (),
) -> Verdict:
    """Return the verdict on techniques that were measured on the same rows.

    Args:
        measured: every row with a score, baselines included, in any order.
        metric: what was measured.
        goal: the wanted score, in the metric's unit.
        seed: of the bootstrap.
        costs: what the techniques cost; ranks the tied.
        improving: techniques that were still getting better when their budget ended.
        starts: what tuned techniques started from.
        sweeps: techniques that differ in one number.
    """
    if not measured:
        return Verdict(
            winner=None, tied_with=(), text="Nothing was measured, so there is no winner."
        )
    standing = stand(measured, metric, seed)
    more = more_rows(standing)
    lines = [headline(standing), *tie(standing, more, costs), *certainty(standing, goal)]
    lines += unfinished(standing, improving)
    every = resample(measured, metric, seed)
    lines += [*untaught(standing, every, starts), *what_paid(standing, every, sweeps)]
    beaten = standing.baseline is not None or standing.best.measured.kind == "baseline"
    tied = () if beaten else tuple(pair.other.measured.name for pair in standing.tied)
    return Verdict(
        winner=None if beaten else standing.best.measured.name,
        tied_with=tied,
        text="\n".join(lines),
        decided=standing.decided,
        more_rows=more,
        comparisons=tuple(_row(standing.best, pair) for pair in standing.pairs),
    )


def headline(standing: Standing) -> str:
    """Return the first sentence: what the board says."""
    best, show = standing.best, standing.show
    name, score = best.measured.name, show(best.score)
    if best.measured.kind == "baseline":
        return f"Only baselines were measured; the best of them is {name} with {score}."
    if not standing.enough:
        return (
            f"Insufficient: {_count(best.n, 'test row')} cannot tell techniques apart (at least "
            f"{ENOUGH_ROWS} are needed for a claim). {name} has the highest score so far, {score}."
        )
    if standing.baseline is not None:
        other = standing.baseline
        above = other.comparison.difference > 0
        opening = "No technique is shown to beat" if above else "No technique beats"
        return (
            f"{opening} the {other.other.measured.name} baseline "
            f"({show(other.other.score)}). The best of them, {name}, scored {score}: "
            f"{_gap(standing, other)}."
        )
    if not standing.rivals:
        return f"{name} scored {score}. No other technique has a score to compare it with."
    if best.measured.one_seed:
        return (
            f"Not decided: {name} scored highest ({score}), but with one seed; one seed cannot "
            f"tell whether it is better or was lucky ({MORE_SEEDS})."
        )
    if standing.tied:
        opening = "No single winner" if standing.close else "Not decided"
        return f"{opening}: {name} scored highest ({score}), but {_doubts(standing)[0]}."
    second = standing.rivals[0]
    return (
        f"{name} wins with {score}: {_gap(standing, second)} against the next best, "
        f"{second.other.measured.name} ({show(second.other.score)})."
    )


def tie(standing: Standing, more: int | None, costs: Costs | None) -> list[str]:
    """Return what to do about a tie: the cheapest of the tied, and what would decide."""
    if not standing.tied or standing.baseline is not None or not standing.enough:
        return []
    if standing.best.measured.one_seed:
        return []
    lines: list[str] = []
    name = standing.best.measured.name
    names = [name, *(pair.other.measured.name for pair in standing.close)]
    lines += [] if costs is None else _cheapest(names, costs)
    if not standing.tied[0].one_seed:
        lines.append(_what_would_tell(standing, standing.tied[0], more))
    return [*lines, *(f"Also not decided: {doubt}." for doubt in _doubts(standing)[1:])]


def _cheapest(names: Sequence[str], costs: Costs) -> list[str]:
    """Say which of the tied cost least and in what; nothing when they cost the same."""
    least = min(costs.by_name[name] for name in names)
    found = [name for name in names if costs.by_name[name] == least]
    if len(found) == len(names):
        return []
    they = "it is" if len(found) == 1 else "they are"
    take = f"While they are tied, take {' or '.join(found)}: {they} the cheapest of them"
    return [f"{take} in {costs.counted}."]


def _what_would_tell(standing: Standing, rival: Pair, more: int | None) -> str:
    name, other = standing.best.measured.name, rival.other.measured.name
    if more is not None:
        return (
            f"Not decided: about {_count(more, 'more test row')} (same difference, 80 % power) "
            f"would separate {name} from {other}; now it is {_gap(standing, rival)}."
        )
    if rival.comparison.difference <= 0:
        return f"Not decided: {name} and {other} have the same score on this test."
    if len(standing.best.scores) > 1 or len(rival.other.scores) > 1:
        return (
            f"Not decided: {_gap(standing, rival)} between {name} and {other} is within the noise "
            "of the seeds; more test rows alone would not separate them, more seeds might."
        )
    return (
        f"Not decided: {name} and {other} are so close that more than "
        f"{TOO_MANY_ROWS:,} test rows would be needed."
    )


def _doubts(standing: Standing) -> list[str]:
    """Return why techniques are not called worse than the best: clauses, real ties first."""
    close = [pair.other.measured.name for pair in standing.close]
    untold = [pair.other.measured.name for pair in standing.untold]
    found = [f"{_listed(close)} may be just as good"] if close else []
    if standing.scattered:
        names = _listed([_with_seeds(standing, pair.other) for pair in standing.scattered])
        verb = "is" if len(standing.scattered) == 1 else "are"
        found.append(f"the seeds scatter too much to tell whether {names} {verb} worse")
    if untold:
        verb = "was" if len(untold) == 1 else "were"
        found.append(
            f"{_listed(untold)} {verb} measured with one seed, which cannot tell skill from luck "
            f"({MORE_SEEDS})"
        )
    return found


def _with_seeds(standing: Standing, one: Resampled) -> str:
    name, show = one.measured.name, standing.show
    if len(one.scores) == 1:
        return f"{name} ({show(one.score)})"
    low, high = show(float(one.scores.min())), show(float(one.scores.max()))
    return f"{name} ({show(one.score)}, its seeds {low} to {high})"


def certainty(standing: Standing, goal: float | None) -> list[str]:
    """Return how sure the best score is: its interval, the goal, the seeds."""
    best, show, interval = standing.best, standing.show, standing.interval
    name, between = best.measured.name, f"{show(interval.low)} to {show(interval.high)}"
    rows = _count(best.n, "test row")
    if standing.candidates > 1:
        rows += f"; the lower end allows for picking the best of {standing.candidates} on them"
    seed = "this one seed of " if best.measured.one_seed else ""
    lines = [
        f"On new rows of the same kind {seed}{name} would score {between} (95 % interval, {rows})."
    ]
    if goal is not None:
        lines.append(_goal(standing, goal))
    low, high = float(best.scores.min()), float(best.scores.max())
    if len(best.scores) > 1:
        lines.append(
            f"Its {len(best.scores)} seeds scored {show(low)} to {show(high)}; "
            "the interval includes that."
        )
    elif best.measured.one_seed:
        lines.append(
            "One seed: how much another seed would change the score was not measured; "
            f"{MORE_SEEDS}."
        )
    return lines


def unfinished(standing: Standing, improving: Sequence[str]) -> list[str]:
    """Return what more budget might change: a better score of the best, or the order."""
    name = standing.best.measured.name
    others = [n for n in improving if n != name]
    if others:
        verb = "was" if len(improving) == 1 else "were"
        return [
            f"This is the order at this budget: {_listed(improving)} {verb} still improving when "
            "it ended, and a larger budget may change it."
        ]
    if improving:
        return [f"{name} was still improving when its budget ended; a larger one may raise it."]
    return []


def untaught(
    standing: Standing, resampled: Sequence[Resampled], starts: Sequence[Start]
) -> list[str]:
    """Return which techniques learned nothing: no better than what they started from.

    With few test rows nothing is said, for they could not show what was learned.
    """
    by_name = {one.measured.name: one for one in resampled}
    found: dict[bool | None, list[str]] = {False: [], True: [], None: []}
    for technique, against, fell in starts:
        one, start = by_name[technique], by_name.get(against or "")
        if start is not None and not _better(one, start):
            shown = f"{standing.show(one.score)}; {against} {standing.show(start.score)}"
            found[fell].append(f"{technique} ({shown})")
        elif start is None and fell is False:
            found[fell].append(f"{technique} ({standing.show(one.score)})")
    if not standing.enough:
        return []
    return [f"{LEARNED[fell]}: {', '.join(names)}." for fell, names in found.items() if names]


def _better(one: Resampled, start: Resampled) -> bool:
    """Return whether a technique is better than its start beyond the noise of what was measured."""
    gained = difference_of_these(one, start)
    return gained.difference > 0 and gained.p < ALPHA


def _goal(standing: Standing, goal: float) -> str:
    score, low, high = standing.interval
    wanted = f"The goal of {standing.show(goal)}"
    if low >= goal:
        return f"{wanted} is reached: the whole interval lies above it."
    if score >= goal:
        return (
            f"{wanted} is reached on this test, but not for certain: the interval reaches below it."
        )
    if high >= goal:
        return (
            f"{wanted} is not reached on this test, but not out of reach: the interval includes it."
        )
    return f"{wanted} is not reached: the whole interval lies below it."


def _gap(standing: Standing, pair: Pair) -> str:
    c, show = pair.comparison, standing.show
    if pair.one_seed:
        return f"a difference of {show(c.difference)}, by one seed"
    p = "p < 0.001" if pair.p_holm < 0.001 else f"p = {pair.p_holm:.3f}"
    between = f"95 % interval {show(c.low)} to {show(c.high)}"
    if standing.tests > 1:  # what decides is corrected, and no interval belongs to Holm's steps
        between += " for this pair alone"
        p += f" corrected for {standing.tests} comparisons"
    return f"a difference of {show(c.difference)} ({between}; {p})"


def _row(best: Resampled, pair: Pair) -> dict[str, str | float]:
    names = {"a": best.measured.name, "b": pair.other.measured.name}
    return {**names, **pair.comparison._asdict(), "p_holm": pair.p_holm}


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
