"""Which value of a swept number paid: `k` of 1, 4 and 16 examples, `n` of 1, 3 and 9 samples.

    paid(v) = v's score is above that of the last value that paid, beyond its noise;  v rises

The first value is where it starts. The level is divided by the steps of all sweeps of the board
(Bonferroni); what is above the noise of its own step alone `may have paid`.

Source: the paired comparison of `stats/comparison.py`. Cost: a subtraction a pair.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from savile.ladder.standing import Standing
from savile.spec import Candidate
from savile.stats import ALPHA, Resampled, difference


class Sweep(NamedTuple):
    """Techniques that differ in one number alone."""

    setting: str
    names: Mapping[float, str]
    """Technique by value, rising."""


def sweeps_of(candidates: Iterable[Candidate]) -> list[Sweep]:
    """Return every number that two or more of the candidates differ in, and in nothing else."""
    groups: dict[tuple[str, str, str], dict[float, str]] = defaultdict(dict)
    for one in candidates:
        settings = [(part, key, value) for part, s in one.every_setting for key, value in s.items()]
        for at, (part, key, value) in enumerate(settings):
            if isinstance(value, int | float) and not isinstance(value, bool):
                rest = repr([*settings[:at], *settings[at + 1 :], one.base])
                groups[key, part, rest][value] = one.name
    every = [(key, dict(sorted(names.items()))) for (key, _, _), names in groups.items()]
    return [Sweep(key, names) for key, names in every if len(names) > 1]


def what_paid(standing: Standing, every: Sequence[Resampled], sweeps: Sequence[Sweep]) -> list[str]:
    """Return a sentence for each sweep of which two values or more have a score.

    Args:
        standing: the board, whose metric and rows they have.
        every: the techniques, resampled together.
        sweeps: of the board.
    """
    by_name = {one.measured.name: one for one in every}
    found = [
        (sweep, [(value, by_name[name]) for value, name in sweep.names.items() if name in by_name])
        for sweep in sweeps
    ]
    found = [(sweep, values) for sweep, values in found if len(values) > 1]
    steps = sum(len(values) - 1 for _, values in found)
    if not standing.enough:
        return []
    return [_said(standing, sweep, values, ALPHA / steps) for sweep, values in found]


def _said(standing: Standing, sweep: Sweep, values: Sequence[Any], level: float) -> str:
    steps, show, key = [], standing.show, sweep.setting
    at, best = values[0]
    first = best.measured.name
    for value, one in values[1:]:
        c = difference(one, best)
        paid = c.difference > 0 and c.p < level
        maybe = "may have paid" if c.difference > 0 and c.p < ALPHA else "did not pay"
        lucky = one.measured.one_seed or best.measured.one_seed
        verb = "is not told by one seed" if lucky else "paid" if paid else maybe
        limits = "" if lucky else f", 95 % interval {show(c.low)} to {show(c.high)}"
        sign = "+" if c.difference >= 0 else ""
        steps.append(f"{key} = {value:g} {verb} ({sign}{show(c.difference)} over {at:g}{limits})")
        if paid:
            at, best = value, one
    return f"From {first}: {'; '.join(steps)}."
