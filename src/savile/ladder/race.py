"""Which technique a race runs next, and which it leaves: nested budgets, compared on the same rows.

A technique starts short: a tuned one with its search, whose best run has 12 % of the share, a
prompt with a quarter of the dev rows. Its whole runs follow, one a seed. The next one is that of

    1. the best start of each family, and a judge's opponent, until it has all its seeds
    2. the leader, the highest mean dev score of those with a whole run, while it has seeds left
    3. the best of the others that may still beat the leader by more than the margin

and the race is over when there is none. With d = leader - technique on the dev rows that both
answered, a technique may beat the leader by at most the lesser of

    paired:   gain - low(d)          what runs of this kind still gained, beyond the gap there is
    ceiling:  top - low(leader)      no score is above the metric's highest
    gain  =   max(2 g, 0.05 top),    g the most that any technique of its kind with more whole runs
              gained from where this one stands to its last; not known, not bounded

`low` is the lower limit that holds at any time (`stats/sequence.py`): at 1 % for the paired bounds,
shared by all rivals and all looks, and at 4 % for the ceilings, shared by all techniques, any of
which may come to lead (Bonferroni). Rows say nothing about curves: that one does not gain more than
twice what every known curve did is a rule, and what it costs is measured (`bench/racing.py`). The
leader has all its seeds before anything is left for it.

Everything follows from the runs there are: one that is killed comes to the same decisions, and a
technique that was left comes back when a later curve shows that late gains are larger.

Source: Maron and Moore 1994 (Hoeffding races); Li et al. 2018, arXiv 1603.06560 (nested budgets);
Waudby-Smith and Ramdas 2023, arXiv 2010.09686 (the limit). Ours: the margin in the place of
elimination by rank, the bound on late gains, the families.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from savile.metrics.base import Array
from savile.stats import ALPHA, lower_limit

PAIRED: Final = 0.2
"""Part of the chance of error that the paired bounds get; they are held back by gains as well."""
LATE: Final = 2.0
"""A curve may gain this many times the most that any curve gained."""
LEAST_GAIN: Final = 0.05
"""Part of the highest score that a curve may gain where no other gained anything."""


@dataclass(frozen=True, kw_only=True)
class Runner:
    """One technique in the race, as far as it is known; rows are dev scores, float64 [n]."""

    name: str
    family: str
    start: Array
    """After the short run; a prompt's has fewer rows, the first ones."""
    whole: tuple[Array, ...] = ()
    """After each whole run."""
    seeds: int
    """Whole runs it would have."""
    learns: bool
    """Whether it is trained: its rows then change with more budget, not with seeds alone."""
    varies: bool = True
    """Whether another seed gives other rows."""

    @property
    def done(self) -> bool:
        """Whether no run is left."""
        return len(self.whole) >= self.seeds

    @property
    def rows(self) -> Array:
        """What is known best: the mean of its whole runs, else its start."""
        return self.mean_of(len(self.whole))

    @property
    def score(self) -> float:
        """The mean of what is known best."""
        return float(self.rows.mean())

    def mean_of(self, runs: int) -> Array:
        """Return the mean rows of the first whole runs, the start for none."""
        found: Array = np.mean(self.whole[:runs], axis=0) if runs else self.start
        return found


@dataclass(frozen=True, kw_only=True)
class Chance:
    """What is left for a technique."""

    leader: str
    most: float
    """By how much it may beat the leader at most."""
    ceiling: bool
    """Whether that is because nothing is above the highest score."""


@dataclass(frozen=True, kw_only=True)
class Race:
    """The rule of a run's race."""

    margin: float
    """The difference that is worth a training, in the metric's unit."""
    top: float = 1.0
    """The metric's highest score."""
    kept: frozenset[str] = frozenset()
    """Techniques that are not stopped whatever they score."""

    def next(self, runners: Sequence[Runner]) -> str | None:
        """Return whose whole run comes next, None when the race is over.

        Args:
            runners: every technique whose start worked, in the order of the ladder; one that fails
                later is no runner any more.
        """
        kept = keepers(runners) | self.kept
        first = next((r for r in runners if r.name in kept and not r.done), leader_of(runners))
        if first is None or not first.done:
            return None if first is None else first.name
        left = [r for r in runners if not r.done and self.chance(r, runners).most > self.margin]
        return max(left, key=lambda r: r.score).name if left else None

    def chance(self, runner: Runner, runners: Sequence[Runner]) -> Chance:
        """Return by how much a technique may still beat the leader; over all techniques and looks
        of a race, the limits in it are wrong with a chance of 5 %."""
        leader = leader_of(runners)
        if leader is None:
            return Chance(leader="", most=math.inf, ceiling=False)
        n, k = len(runner.rows), len(runners)
        gap = leader.rows[:n] - runner.rows
        paired = PAIRED * ALPHA / max(k - 1, 1) / runner.seeds
        likely = self._gain(runner, runners) - lower_limit(
            gap, paired, low=-self.top, high=self.top
        )
        best = lower_limit(leader.rows, (1 - PAIRED) * ALPHA / k, high=self.top)
        most = min(likely, self.top - best)
        return Chance(leader=leader.name, most=most, ceiling=most < likely)

    def _gain(self, runner: Runner, runners: Sequence[Runner]) -> float:
        """Return the most that more budget may bring, by what it brought to others of the kind."""
        if not (runner.learns or runner.varies):
            return 0.0
        runs, n = len(runner.whole), len(runner.rows)
        others = [r for r in runners if r.learns == runner.learns and len(r.whole) > runs]
        if not others:
            return math.inf
        gains = [float((r.rows[:n] - r.mean_of(runs)[:n]).mean()) for r in others]
        return max(LATE * max(gains), LEAST_GAIN * self.top)


def first_rows(n_dev: int) -> int:
    """Return how many dev rows a prompt answers in its short run."""
    return max(n_dev // 4, 1)


def leader_of(runners: Sequence[Runner]) -> Runner | None:
    """Return the technique with the highest mean dev score of those with a whole run."""
    run = [runner for runner in runners if runner.whole]
    return max(run, key=lambda r: r.score) if run else None


def keepers(runners: Sequence[Runner]) -> frozenset[str]:
    """Return the technique of each family that has all its runs whatever comes: the best start."""
    best: dict[str, Runner] = {}
    for runner in runners:
        held = best.get(runner.family)
        if held is None or runner.start.mean() > held.start.mean():
            best[runner.family] = runner
    return frozenset(runner.name for runner in best.values())
