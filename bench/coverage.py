"""Do the 95 % intervals cover, and how often is a difference claimed where there is none?

Simulates tasks whose true score is known. Rows have a difficulty of their own, shared by all seeds
(and partly by all techniques); each seed shifts every row by a normal draw of standard deviation
`noise` (on the probit scale) and adds noise of its own to each row. Prints two Markdown tables: the
coverage of single rows; then boards without any difference, of which every claim is false, with
the coverage of the row that was picked because it scored highest.

    python bench/coverage.py --tasks 2000 --worlds 1000

Cost: about four minutes on one core.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.stats import norm

from savile.ladder.standing import stand
from savile.metrics.accuracy import Accuracy
from savile.metrics.base import Array, Metric
from savile.metrics.bleu import Bleu
from savile.metrics.macro_f1 import MacroF1
from savile.metrics.rouge_l import RougeL
from savile.stats import ALPHA, Interval, Measured, holm, limits, resample

Draw = Callable[[np.random.Generator, int, int, float], list[Array]]
REPLICATES = 400
"""Fewer than in a run: the Monte Carlo error averages out over the tasks."""
SHIFT = 0.85
"""Mean of a row's latent quality; right is above 0."""


def latent(rng: np.random.Generator, n: int, seeds: int, noise: float) -> list[Array]:
    """Return the latent quality [n] of each seed's answers; variance 1 without the seed's shift."""
    shared = rng.normal(size=n)
    return [
        SHIFT + rng.normal(0, noise) + math.sqrt(0.7) * shared + math.sqrt(0.3) * rng.normal(size=n)
        for _ in range(seeds)
    ]


def accuracy_rows(rng: np.random.Generator, n: int, seeds: int, noise: float) -> list[Array]:
    """Right or wrong."""
    return [
        np.stack([q > 0, np.ones(n)], axis=1).astype(float) for q in latent(rng, n, seeds, noise)
    ]


def rouge_rows(rng: np.random.Generator, n: int, seeds: int, noise: float) -> list[Array]:
    """A mean of rows between 0 and 1, many of them exactly 0 or 1, as ROUGE-L and token F1 are."""
    return [
        np.stack([np.clip(0.5 + 0.4 * (q - SHIFT / 2), 0, 1), np.ones(n)], axis=1)
        for q in latent(rng, n, seeds, noise)
    ]


def f1_rows(
    rng: np.random.Generator, n: int, seeds: int, noise: float, priors: tuple[float, ...]
) -> list[Array]:
    """Wrong rows get another label, half of the time the same one for every seed."""
    c = len(priors)
    truth, rows = rng.choice(c, n, p=priors), np.arange(n)
    usual, found = (truth + rng.integers(1, c, n)) % c, []
    for q in latent(rng, n, seeds, noise):
        other = np.where(rng.random(n) < 0.5, usual, (truth + rng.integers(1, c, n)) % c)
        said, statistics = np.where(q > 0, truth, other), np.zeros((n, 3 * c))
        right = said == truth
        statistics[rows[right], truth[right]] = 1
        statistics[rows[~right], c + said[~right]] = 1
        statistics[rows[~right], 2 * c + truth[~right]] = 1
        found.append(statistics)
    return found


def bleu_rows(rng: np.random.Generator, n: int, seeds: int, noise: float) -> list[Array]:
    """Counts of matching n-grams, each order thinned out of the one below."""
    length, found = rng.integers(4, 25, n), []
    for q in latent(rng, n, seeds, noise):
        share = norm.cdf(0.7 * q)
        said = np.maximum(1, length + rng.integers(-2, 3, n))
        matched, totals = [rng.binomial(said, share)], [said]
        for order in range(1, 4):
            totals.append(np.maximum(said - order, 0))
            room = np.minimum(np.maximum(matched[-1] - 1, 0), totals[-1])
            matched.append(rng.binomial(room, np.sqrt(share)))
        found.append(np.stack([said, length, *matched, *totals], axis=1).astype(float))
    return found


@dataclass(frozen=True, kw_only=True)
class Case:
    """One line of the coverage table."""

    name: str
    metric: Metric
    draw: Draw
    n: int
    seeds: int
    noise: float

    def truth(self) -> float:
        """Return the score expected of a new seed on very many rows."""
        rng, metric = np.random.default_rng(0), self.metric
        drawn = [self.draw(rng, 4000, 1, self.noise)[0].sum(axis=0) for _ in range(800)]
        return float(np.mean([float(metric.aggregate(total)) for total in drawn]))

    def coverage(self, tasks: int) -> tuple[float, float]:
        """Return the share of tasks whose interval holds the truth, and the mean width."""
        rng, truth, held, width = np.random.default_rng(1), self.truth(), 0, 0.0
        for task in range(tasks):
            statistics = tuple(self.draw(rng, self.n, self.seeds, self.noise))
            measured = Measured(
                name="a", statistics=statistics, binary=isinstance(self.metric, Accuracy)
            )
            found = limits(resample([measured], self.metric, task, REPLICATES)[0])
            held += found.low <= truth <= found.high
            width += found.high - found.low
        return held / tasks, width / tasks


def cases() -> list[Case]:
    """Return every setting of the coverage table."""
    even, skewed = partial(f1_rows, priors=(0.2,) * 5), (0.5, 0.3, 0.1, 0.06, 0.04)
    uneven = partial(f1_rows, priors=skewed)
    many = partial(f1_rows, priors=(1 / 30,) * 30)
    kinds: list[tuple[str, Metric, Draw, tuple[int, ...]]] = [
        ("accuracy", Accuracy(), accuracy_rows, (100, 1000)),
        ("macro-F1, 5 even labels", MacroF1(), even, (200,)),
        ("macro-F1, 5 uneven labels", MacroF1(), uneven, (300,)),
        ("macro-F1, 30 labels", MacroF1(), many, (500,)),
        ("BLEU", Bleu(), bleu_rows, (100,)),
        ("ROUGE-like mean", RougeL(), rouge_rows, (100,)),
    ]
    seeds = ((1, 0.0), (3, 0.1), (5, 0.1), (5, 0.3))
    return [
        Case(name=name, metric=metric, draw=draw, n=n, seeds=k, noise=noise)
        for name, metric, draw, sizes in kinds
        for n in sizes
        for k, noise in seeds
    ]


def board(
    rng: np.random.Generator, n: int, seeds: tuple[int, ...], noise: float
) -> tuple[list[Measured], list[float]]:
    """Return techniques of equal true accuracy 0.8 that find the same rows hard, and the truths.

    0 seeds: a technique without chance. One seed: the statement is about this seed, and so is the
    truth; several: it is about a new seed.
    """
    common, found, truths = rng.normal(size=n), [], []
    for number, k in enumerate(seeds):
        own = math.sqrt(0.6) * common + math.sqrt(0.28) * rng.normal(size=n)
        sd = noise if k else 0.0
        bar = norm.ppf(0.2) * math.sqrt(1 + sd**2)
        shifts = rng.normal(0, sd, size=max(k, 1))
        mixed = [own + math.sqrt(0.12) * rng.normal(size=n) + shift for shift in shifts]
        rows = tuple(np.stack([m > bar, np.ones(n)], axis=1).astype(float) for m in mixed)
        name = str(number)
        found.append(Measured(name=name, statistics=rows, binary=True, stochastic=k > 0))
        truths.append(float(norm.cdf(shifts[0] - bar)) if k == 1 else 0.8)
    return found, truths


@dataclass(kw_only=True)
class Tally:
    """Counts over worlds in which all techniques are equally good."""

    worse: int = 0
    """Worlds in which the verdict called a row worse."""
    winners: int = 0
    """Worlds in which it declared a winner."""
    narrow: int = 0
    """Worlds in which Holm over the K - 1 pairs with the best would call a row worse."""
    held: int = 0
    """Worlds in which the picked row's interval holds its truth."""
    plain: int = 0
    """Worlds in which its ordinary interval does."""
    width: float = 0.0
    """Sum of the widths of the picked row's intervals."""

    def told(self, worlds: int) -> str:
        """Return the cells of a line."""
        shares = (self.worse, self.winners, self.narrow, self.held, self.plain)
        return " | ".join([*(f"{s / worlds:.1%}" for s in shares), f"{self.width / worlds:.3f}"])


def null_worlds(worlds: int, n: int, seeds: tuple[int, ...], noise: float) -> Tally:
    """Return what the verdict says of boards without a difference."""
    rng, tally = np.random.default_rng(2), Tally()
    for world in range(worlds):
        measured, truths = board(rng, n, seeds, noise)
        standing = stand(measured, Accuracy(), world, REPLICATES)
        truth, found = truths[int(standing.best.measured.name)], standing.interval
        tally.worse += any(pair.worse for pair in standing.pairs)
        tally.winners += standing.decided
        tally.narrow += min(holm([pair.comparison.p for pair in standing.pairs])) < ALPHA
        tally.held += holds(found, truth)
        tally.plain += holds(limits(standing.best), truth)
        tally.width += found.high - found.low
    return tally


def holds(interval: Interval, truth: float) -> bool:
    """Return whether the limits enclose the truth."""
    return interval.low <= truth <= interval.high


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--worlds", type=int, default=1000)
    options = parser.parse_args()
    if options.tasks:
        print_coverage(options.tasks)
    print_null_worlds(options.worlds)


def print_coverage(tasks: int) -> None:
    """Print the table of single rows."""
    print(f"| score | rows | seeds | seed noise | coverage ({tasks} tasks) | mean width |")
    print("|---|--:|--:|--:|--:|--:|")
    for case in cases():
        share, width = case.coverage(tasks)
        start = f"| {case.name} | {case.n} | {case.seeds} | {case.noise}"
        print(f"{start} | {share:.1%} | {width:.3f} |", flush=True)


def print_null_worlds(worlds: int) -> None:
    """Print the table of boards without a difference."""
    print(
        f"\n| techniques x seeds | rows | seed noise | any row called worse ({worlds} worlds) | a "
        "winner declared | Holm over K - 1 pairs instead | picked row: coverage | its ordinary "
        "interval | mean width |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for seeds, n, noise in [
        ((0,) * 3, 200, 0.0),
        ((0,) * 6, 200, 0.0),
        ((0,) * 12, 200, 0.0),
        ((0,) * 6, 1000, 0.0),
        ((0,) * 12, 1000, 0.0),
        ((1,) * 6, 200, 0.1),
        ((1,) * 6, 1000, 0.1),
        ((0,) * 2 + (1,) * 4, 1000, 0.1),
        ((3,) * 6, 200, 0.2),
        ((3,) * 12, 200, 0.2),
        ((3,) * 6, 1000, 0.2),
        ((0,) * 2 + (3,) * 6, 200, 0.2),
        ((0,) * 4 + (5,) * 8, 200, 0.1),
        ((0,) * 4 + (5,) * 8, 200, 0.3),
        ((0, 0, 3), 200, 0.2),
        ((5,) * 6, 1000, 0.05),
    ]:
        told = " + ".join(f"{seeds.count(k)} x {k or 'no chance'}" for k in sorted(set(seeds)))
        line = null_worlds(worlds, n, seeds, noise).told(worlds)
        print(f"| {told} | {n} | {noise} | {line} |", flush=True)


if __name__ == "__main__":
    main()
