"""Boards of techniques whose true scores are known, for `coverage.py`.

Rows have a difficulty that all techniques share, and one for each technique; each seed of a
technique shifts all rows by a normal draw of standard deviation `noise` (on the probit scale) and
adds noise of its own to each row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from savile.stats import Measured

COMMON, OWN = 0.6, 0.28
"""Of the variance of a row's latent quality: shared by all techniques, and by a technique's seeds;
the rest is the seed's own. Two techniques then find about the same rows hard."""


@dataclass(frozen=True)
class Group:
    """Techniques alike."""

    count: int
    seeds: int
    """0: a technique without chance. One seed: the statement is about this seed, and so is the
    truth; several: it is about a new seed."""
    noise: float = 0.0
    """Standard deviation of a seed's shift."""
    score: float = 0.8
    """True accuracy, the mean over seeds."""


@dataclass(frozen=True, kw_only=True)
class World:
    """One kind of board."""

    name: str
    n: int
    """Test rows."""
    groups: tuple[Group, ...]

    def draw(self, rng: np.random.Generator) -> tuple[list[Measured], dict[str, float]]:
        """Return one board, and the true score of each technique by name."""
        common, found, truths = rng.normal(size=self.n), [], {}
        for name, group in self._techniques():
            seeds, sd = max(group.seeds, 1), group.noise if group.seeds else 0.0
            bar = -ndtri(group.score) * math.sqrt(1 + sd**2)
            shifts = rng.normal(0, sd, size=(seeds, 1))
            shared = math.sqrt(COMMON) * common + math.sqrt(OWN) * rng.normal(size=self.n)
            rest = math.sqrt(1 - COMMON - OWN) * rng.normal(size=(seeds, self.n))
            right = (shared + rest + shifts > bar).astype(float)
            rows = tuple(np.stack([r, np.ones(self.n)], axis=1) for r in right)
            found.append(
                Measured(name=name, statistics=rows, binary=True, stochastic=group.seeds > 0)
            )
            truths[name] = float(ndtr(shifts[0, 0] - bar)) if group.seeds == 1 else group.score
        return found, truths

    def _techniques(self) -> Iterator[tuple[str, Group]]:
        for g, group in enumerate(self.groups):
            for i in range(group.count):
                yield f"{g}.{i}", group


def worlds() -> list[World]:
    """Return every kind of board: none better, some scatter, one ahead, and near the ceiling."""
    quiet, wild = 0.02, 0.4
    graded = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
    routing = ((0.99, 0.1), (0.99, 0.1), (0.985, 0.05), (0.8, 0.3), (0.77, 0.4), (0.59, 0.4))
    alike = [
        ("6 alike, no chance", 200, (Group(6, 0),)),
        ("12 alike, no chance", 200, (Group(12, 0),)),
        ("6 alike, one seed, noise .1", 200, (Group(6, 1, 0.1),)),
        ("2 alike x 3 seeds, noise .3", 500, (Group(2, 3, 0.3),)),
        ("3 alike x 3 seeds, noise .3", 500, (Group(3, 3, 0.3),)),
        ("6 alike x 3 seeds, noise .2", 200, (Group(6, 3, 0.2),)),
        ("12 alike x 3 seeds, noise .2", 200, (Group(12, 3, 0.2),)),
        ("12 alike x 3 seeds, noise .5", 400, (Group(12, 3, 0.5),)),
        ("6 alike x 2 seeds, noise .2", 200, (Group(6, 2, 0.2),)),
        ("6 alike x 5 seeds, noise .05", 500, (Group(6, 5, 0.05),)),
        ("12 alike x 5 seeds, noise .3", 300, (Group(12, 5, 0.3),)),
        ("2 no chance, 6 x 3 seeds, noise .2", 200, (Group(2, 0), Group(6, 3, 0.2))),
        ("4 no chance, 8 x 5 seeds, noise .3", 200, (Group(4, 0), Group(8, 5, 0.3))),
        ("4 no chance, 2 x 3 seeds, noise .3", 500, (Group(4, 0), Group(2, 3, 0.3))),
        ("5 no chance, 1 x 3 seeds, noise .3", 500, (Group(5, 0), Group(1, 3, 0.3))),
        ("ceiling .99, 6 x 3 seeds, noise .2", 400, (Group(6, 3, 0.2, 0.99),)),
    ]
    uneven = [
        ("3 quiet, 3 noisy (.3) x 3 seeds", 500, (Group(3, 3, quiet), Group(3, 3, 0.3))),
        ("5 quiet, 1 wild x 3 seeds", 500, (Group(5, 3, quiet), Group(1, 3, wild))),
        ("10 quiet, 2 wild x 3 seeds", 500, (Group(10, 3, quiet), Group(2, 3, wild))),
        ("8 quiet, 4 wild x 3 seeds", 500, (Group(8, 3, quiet), Group(4, 3, wild))),
        ("4 quiet, 2 wild x 2 seeds", 500, (Group(4, 2, quiet), Group(2, 2, wild))),
        ("1 quiet, 5 wild x 3 seeds", 500, (Group(1, 3, quiet), Group(5, 3, wild))),
        ("noise .02 to .5, 6 x 3 seeds", 500, tuple(Group(1, 3, sd) for sd in graded)),
        ("noise .02 to .5, 6 x 5 seeds", 500, tuple(Group(1, 5, sd) for sd in graded)),
    ]
    ahead = [
        ("alone x 3 seeds, noise .3", 500, (Group(1, 3, 0.3),)),
        ("quiet far ahead of 5 wild x 3", 500, (Group(1, 3, 0.05, 0.95), Group(5, 3, wild, 0.7))),
        ("noisy far ahead of 5 noisy x 3", 500, (Group(1, 3, 0.3, 0.95), Group(5, 3, 0.3, 0.6))),
        (
            "quiet just ahead of 3 wild x 3",
            500,
            (Group(1, 3, quiet, 0.86), Group(3, 3, wild, 0.84)),
        ),
        (
            "wild just ahead of 3 quiet x 3",
            500,
            (Group(1, 3, wild, 0.86), Group(3, 3, quiet, 0.84)),
        ),
        ("5 quiet just ahead of wild x 3", 500, (Group(5, 3, quiet, 0.8), Group(1, 3, wild, 0.78))),
        ("4 quiet just ahead of 2 wild x 2", 1000, (Group(4, 2, quiet), Group(2, 2, wild, 0.75))),
        ("scores .70 to .86, noise .2 x 3", 500, tuple(Group(1, 3, 0.2, p) for p in SCORES)),
        ("scores .70 to .86, no chance", 200, tuple(Group(1, 0, 0.0, p) for p in SCORES)),
        ("like hard_routing x 3 seeds", 500, tuple(Group(1, 3, sd, p) for p, sd in routing)),
        ("like hard_routing x 5 seeds", 500, tuple(Group(1, 5, sd, p) for p, sd in routing)),
    ]
    return [World(name=name, n=n, groups=groups) for name, n, groups in (*alike, *uneven, *ahead)]


SCORES = (0.86, 0.84, 0.82, 0.8, 0.78, 0.7)
