"""Who won, how sure that is, who is tied, and how many more test rows would tell: in plain words.

The highest score is compared with every other row, trivial baselines included. Because the winner
is picked by looking at the scores, the difference to it is one of K (K - 1) / 2 that might have
been picked: Holm's correction runs over all pairs. (Over the K - 1 pairs with the winner alone, 9
to 17 % of worlds without any difference had a "significantly worse" row; see `bench/coverage.py`.)
The tie set is every row that is not significantly worse; in it the cheapest is recommended.

Source: Holm 1979; exact McNemar and the paired bootstrap in `stats.py`.
Cost: one resampling for all pairs; a comparison is then a subtraction of two vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from savile.metrics.base import Metric
from savile.stats import (
    ALPHA,
    Comparison,
    Interval,
    Measured,
    Resampled,
    difference,
    holm,
    limits,
    resample,
    rows_needed,
    spread,
)
from savile.types import Verdict

ENOUGH_ROWS = 30
"""Below this number of test rows no difference is claimed (`insufficient`)."""
TOO_MANY_ROWS = 1_000_000
"""Above this a number of further rows is not named."""


class Pair(NamedTuple):
    """The comparison of the best row with another one."""

    other: Resampled
    comparison: Comparison
    p_holm: float

    @property
    def worse(self) -> bool:
        """Whether the other row is significantly worse."""
        return self.p_holm < ALPHA and self.comparison.difference > 0


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The board as the verdict sees it: the best technique and its comparisons, best first."""

    metric: Metric
    best: Resampled
    interval: Interval
    pairs: tuple[Pair, ...]
    undecided: int
    """Pairs of the whole board without a significant difference."""

    @property
    def enough(self) -> bool:
        """Whether there are enough test rows to claim a difference."""
        return self.best.n >= ENOUGH_ROWS

    @property
    def tied(self) -> tuple[Pair, ...]:
        """Techniques that are not significantly worse than the best."""
        return tuple(pair for pair in self.rivals if not (pair.worse and self.enough))

    @property
    def rivals(self) -> tuple[Pair, ...]:
        """The other techniques, baselines aside."""
        return tuple(pair for pair in self.pairs if pair.other.measured.kind != "baseline")

    @property
    def baseline(self) -> Pair | None:
        """The best baseline, unless the best technique is significantly better."""
        pairs = [pair for pair in self.pairs if pair.other.measured.kind == "baseline"]
        return pairs[0] if pairs and not pairs[0].worse else None

    def show(self, score: float) -> str:
        """Return a score as people of the metric write it."""
        return f"{score:.1f}" if self.metric.top > 1 else f"{score:.3f}"


def verdict(
    measured: Sequence[Measured],
    metric: Metric,
    *,
    goal: float | None = None,
    seed: int = 0,
    costs: Mapping[str, float] | None = None,
) -> Verdict:
    """Return the verdict on techniques that were measured on the same rows.

    Args:
        measured: every row with a score, baselines included, in any order.
        metric: what was measured.
        goal: the wanted score, in the metric's unit.
        seed: of the bootstrap.
        costs: what a technique costs, by name, in any one unit; ranks the tied.
    """
    if not measured:
        return Verdict(
            winner=None, tied_with=(), text="Nothing was measured, so there is no winner."
        )
    standing = stand(measured, metric, seed)
    more = more_rows(standing)
    lines = [headline(standing), *tie(standing, more, costs or {}), *certainty(standing, goal)]
    beaten = standing.baseline is not None or standing.best.measured.kind == "baseline"
    tied = () if beaten else tuple(pair.other.measured.name for pair in standing.tied)
    return Verdict(
        winner=None if beaten else standing.best.measured.name,
        tied_with=tied,
        text="\n".join(lines),
        decided=not beaten and not tied and standing.enough,
        more_rows=more,
        comparisons=tuple(_row(standing.best, pair) for pair in standing.pairs),
    )


def stand(measured: Sequence[Measured], metric: Metric, seed: int) -> Standing:
    """Compare all pairs, correct by Holm, and keep those with the best technique."""
    every = sorted(resample(measured, metric, seed), key=lambda r: -r.score)
    techniques = [r for r in every if r.measured.kind != "baseline"]
    best = techniques[0] if techniques else every[0]
    both = list(combinations(every, 2))
    found = [difference(a, b) for a, b in both]
    adjusted = holm([c.p for c in found])
    pairs = []
    for (a, b), c, p in zip(both, found, adjusted, strict=True):
        if a is best:
            pairs.append(Pair(b, c, p))
        elif b is best:
            pairs.append(Pair(a, Comparison(-c.difference, -c.high, -c.low, c.p), p))
    pairs.sort(key=lambda pair: -pair.other.score)
    return Standing(
        metric=metric,
        best=best,
        interval=limits(best),
        pairs=tuple(pairs),
        undecided=sum(p >= ALPHA for p in adjusted),
    )


def more_rows(standing: Standing) -> int | None:
    """Return about how many more rows would separate the best technique from the next tied one."""
    if not standing.tied:
        return None
    rival = standing.tied[0]
    noise = spread(standing.best, rival.other)
    needed = rows_needed(
        rival.comparison.difference,
        noise.rows * standing.best.n,
        noise.seeds,
        ALPHA / max(1, standing.undecided),
    )
    if needed is None or needed - standing.best.n > TOO_MANY_ROWS:
        return None
    return max(1, needed - standing.best.n)


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
        return (
            f"No technique beats the {other.other.measured.name} baseline "
            f"({show(other.other.score)}). The best of them, {name}, scored {score}: "
            f"{_gap(standing, other)}."
        )
    if standing.tied:
        names = _listed([pair.other.measured.name for pair in standing.tied])
        return (
            f"No single winner: {name} scored highest ({score}), but {names} may be just as good."
        )
    if not standing.rivals:
        return f"{name} scored {score}. It had no other technique to beat."
    second = standing.rivals[0]
    return (
        f"{name} wins with {score}: {_gap(standing, second)} against the next best, "
        f"{second.other.measured.name} ({show(second.other.score)})."
    )


def tie(standing: Standing, more: int | None, costs: Mapping[str, float]) -> list[str]:
    """Return what to do about a tie: the cheapest of the tied, and what would decide."""
    if not standing.tied or standing.baseline is not None or not standing.enough:
        return []
    name, rival = standing.best.measured.name, standing.tied[0]
    other = rival.other.measured.name
    lines = []
    names = [name, *(pair.other.measured.name for pair in standing.tied)]
    priced = [n for n in names if n in costs]
    if len(priced) > 1:
        cheapest = min(priced, key=lambda n: costs[n])
        lines.append(f"While they are tied, take {cheapest}: it is the cheapest of them.")
    if more is not None:
        lines.append(
            f"Not decided: about {_count(more, 'more test row')} (same difference, 80 % power) "
            f"would separate {name} from {other}; now it is {_gap(standing, rival)}."
        )
    elif rival.comparison.difference <= 0:
        lines.append(f"Not decided: {name} and {other} have the same score on this test.")
    elif len(standing.best.scores) > 1 or len(rival.other.scores) > 1:
        lines.append(
            f"Not decided: {_gap(standing, rival)} between {name} and {other} is within the noise "
            "of the seeds; more test rows alone would not separate them, more seeds might."
        )
    else:
        lines.append(
            f"Not decided: {name} and {other} are so close that more than "
            f"{TOO_MANY_ROWS:,} test rows would be needed."
        )
    return lines


def certainty(standing: Standing, goal: float | None) -> list[str]:
    """Return how sure the best score is: its interval, the goal, the seeds."""
    best, show, interval = standing.best, standing.show, standing.interval
    name, between = best.measured.name, f"{show(interval.low)} to {show(interval.high)}"
    lines = [
        f"On new rows of the same kind {name} would score {between} "
        f"(95 % interval, {_count(best.n, 'test row')})."
    ]
    if goal is not None:
        lines.append(_goal(standing, goal))
    low, high = float(best.scores.min()), float(best.scores.max())
    if len(best.scores) > 1:
        lines.append(
            f"Its {len(best.scores)} seeds scored {show(low)} to {show(high)}; "
            "the interval includes that."
        )
    elif best.measured.kind == "tuned":
        lines.append("One seed: how much another seed would change the score was not measured.")
    return lines


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
    p = "p < 0.001" if pair.p_holm < 0.001 else f"p = {pair.p_holm:.3f}"
    return (
        f"a difference of {show(c.difference)} (95 % interval {show(c.low)} to {show(c.high)}, {p})"
    )


def _row(best: Resampled, pair: Pair) -> dict[str, str | float]:
    names = {"a": best.measured.name, "b": pair.other.measured.name}
    return {**names, **pair.comparison._asdict(), "p_holm": pair.p_holm}


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
