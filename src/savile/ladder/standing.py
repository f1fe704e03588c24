"""Who stands first, who is tied with it, and how many more test rows would tell: the numbers.

The highest score is compared with every other row, trivial baselines included. Because the winner
is picked by looking at the scores, the difference to it is one of K (K - 1) / 2 that might have
been picked: Holm's correction runs over all pairs. (Over the K - 1 pairs with the winner alone, up
to 12 % of boards without any difference had a "significantly worse" row; see `bench/coverage.py`.)
The tie set is every row that is not significantly worse: those that may be just as good, of which
the cheapest is recommended; those with a far lower score whose seeds scatter too much to tell; and
those of one seed, of which nothing can be told. The best row's interval counts that it was picked
among the rows that might be the best (`stats/limits.py`).

Source: Holm 1979; exact McNemar and the paired bootstrap in `stats/comparison.py`.
Cost: one resampling for all pairs; a comparison is then a subtraction of two vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from savile.metrics.base import Metric
from savile.stats import (
    ALPHA,
    REPLICATES,
    Comparison,
    Interval,
    Measured,
    Resampled,
    difference,
    difference_of_these,
    holm,
    limits,
    limits_of_picked,
    noise_of_difference,
    resample,
    rows_needed,
)

ENOUGH_ROWS = 30
"""Below this number of test rows no difference is claimed (`insufficient`)."""
TOO_MANY_ROWS = 1_000_000
"""Above this a number of further rows is not named."""


class Pair(NamedTuple):
    """The comparison of the best row with another one."""

    other: Resampled
    comparison: Comparison
    p_holm: float
    one_seed: bool = False
    """Whether chance was drawn only once on either side: the comparison tells nothing."""

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
    """Of the best technique, wider below when others of the `candidates` might be the best."""
    candidates: int
    """Rows that might have been picked."""
    pairs: tuple[Pair, ...]
    tests: int
    """Pairs of the whole board that were tested: those that p-values are corrected for."""
    undecided: int
    """Of these, pairs without a significant difference."""

    @property
    def enough(self) -> bool:
        """Whether there are enough test rows to claim a difference."""
        return self.best.n >= ENOUGH_ROWS

    @property
    def tied(self) -> tuple[Pair, ...]:
        """Techniques that are not significantly worse than the best; the real ties first."""
        return (*self.close, *self.scattered, *self.untold)

    @property
    def close(self) -> tuple[Pair, ...]:
        """Tied techniques that may be just as good as the best."""
        return tuple(p for p in self._not_worse if not p.one_seed and not self._far(p))

    @property
    def scattered(self) -> tuple[Pair, ...]:
        """Tied techniques of far lower scores: only the scatter of seeds keeps them in the race."""
        return tuple(p for p in self._not_worse if not p.one_seed and self._far(p))

    @property
    def untold(self) -> tuple[Pair, ...]:
        """Techniques of which one seed cannot tell whether they are worse."""
        return tuple(p for p in self._not_worse if p.one_seed)

    @property
    def decided(self) -> bool:
        """Whether the best technique stands alone, above the baselines, and not by one seed."""
        beaten = self.baseline is not None or self.best.measured.kind == "baseline"
        return not (beaten or self.tied or self.best.measured.one_seed) and self.enough

    @property
    def _not_worse(self) -> tuple[Pair, ...]:
        return tuple(pair for pair in self.rivals if not (pair.worse and self.enough))

    def _far(self, pair: Pair) -> bool:
        seeds = len(self.best.scores) > 1 or len(pair.other.scores) > 1
        return seeds and pair.other.score < limits(self.best).low

    @property
    def rivals(self) -> tuple[Pair, ...]:
        """The other techniques, baselines aside."""
        return tuple(pair for pair in self.pairs if pair.other.measured.kind != "baseline")

    @property
    def baseline(self) -> Pair | None:
        """The best baseline, unless the best technique, or its only seed, is clearly better."""
        first = next((p for p in self.pairs if p.other.measured.kind == "baseline"), None)
        if first is None or first.worse:
            return None
        own = difference_of_these(self.best, first.other)
        return None if first.one_seed and own.difference > 0 and own.p < ALPHA else first

    def show(self, score: float) -> str:
        """Return a score as people of the metric write it."""
        return f"{score:.1f}" if self.metric.top > 1 else f"{score:.3f}"


def stand(
    measured: Sequence[Measured], metric: Metric, seed: int, replicates: int = REPLICATES
) -> Standing:
    """Compare all pairs, correct by Holm, and keep those with the best technique.

    Pairs of which one seed tells nothing are no tests, so the others need not pay for them.
    """
    every = sorted(resample(measured, metric, seed, replicates), key=lambda r: -r.score)
    techniques = [r for r in every if r.measured.kind != "baseline"]
    candidates = techniques or every
    best = candidates[0]
    both = list(combinations(every, 2))
    found = [difference(a, b) for a, b in both]
    luck = [a.measured.one_seed or b.measured.one_seed for a, b in both]
    adjusted = _adjusted(found, luck)
    pairs = []
    for (a, b), c, p, one_seed in zip(both, found, adjusted, luck, strict=True):
        if a is best:
            pairs.append(Pair(b, c, p, one_seed))
        elif b is best:
            turned = Comparison(-c.difference, -c.high, -c.low, c.p)
            pairs.append(Pair(a, turned, p, one_seed))
    pairs.sort(key=lambda pair: -pair.other.score)
    return Standing(
        metric=metric,
        best=best,
        interval=limits_of_picked(best, candidates),
        candidates=len(candidates),
        pairs=tuple(pairs),
        tests=luck.count(False),
        undecided=sum(p >= ALPHA and not one for p, one in zip(adjusted, luck, strict=True)),
    )


def _adjusted(found: Sequence[Comparison], luck: Sequence[bool]) -> list[float]:
    tested = iter(holm([c.p for c, one_seed in zip(found, luck, strict=True) if not one_seed]))
    return [1.0 if one_seed else next(tested) for one_seed in luck]


def more_rows(standing: Standing) -> int | None:
    """Return about how many more rows would separate the best technique from the next tied one."""
    if not standing.tied or standing.tied[0].one_seed:
        return None
    rival = standing.tied[0]
    noise = noise_of_difference(standing.best, rival.other)
    needed = rows_needed(
        rival.comparison.difference,
        noise.rows.variance * standing.best.n,
        noise.seed_variance,
        ALPHA / max(1, standing.undecided),
    )
    if needed is None or needed - standing.best.n > TOO_MANY_ROWS:
        return None
    return max(1, needed - standing.best.n)
