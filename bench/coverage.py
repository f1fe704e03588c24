"""Do the 95 % intervals cover, and how often is a difference claimed where there is none?

    python bench/coverage.py boards --worlds 1000
    python bench/coverage.py rows --tasks 2000

`boards` simulates whole boards whose true scores are known (`coverage_worlds.py`): techniques that
are all alike, some that scatter over seeds beside some that do not, one ahead of the others. Of
each kind it says how often the limits of the row that scored highest hold its true score, and how
wide they are: for the rule in use, for the former one (`former.py`), and for limits that ignore
that the row was picked. Then how often the verdict calls a row worse that is at least as good as
the best, by the present and the former rule, and if Holm's correction ran over the pairs with the
best row alone; and how many of the rows that are worse it finds. `rows` says how often the limits
of single rows hold the truth, for every kind of metric (`coverage_rows.py`).

Results go to `bench/results/` as JSON lines; `bench/table.py` writes the documents from them.
Cost: `boards` takes six minutes of one core, `rows` three.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import coverage_rows
import former
import kept
import machine
from coverage_worlds import World, worlds
from savile.ladder.standing import stand
from savile.metrics.accuracy import Accuracy
from savile.stats import ALPHA, Resampled, holm, limits

REPLICATES = 200
"""Fewer bootstrap samples than in a run: their error averages out over the boards."""
RULES = ("present", "former", "plain")
CLAIMING = ("present", "former", "narrow")
LIMITS = (("coverage", ".1%"), ("width", ".3f"))
CLAIMS = ("false_claims", "found")


@dataclass
class Tally:
    """Sums over boards of one kind."""

    held: Counter[str] = field(default_factory=Counter)
    """Boards in which a rule's limits hold the picked row's true score."""
    width: Counter[str] = field(default_factory=Counter)
    """Sum of the limits' widths."""
    false: Counter[str] = field(default_factory=Counter)
    """Boards in which a row is called worse that is not."""
    found: Counter[str] = field(default_factory=Counter)
    """Rows that are worse and called so."""
    worse: int = 0
    """Rows that are worse."""

    def limits(self, rule: str, low: float, high: float, truth: float) -> None:
        """Count the limits of the picked row."""
        self.held[rule] += low <= truth <= high
        self.width[rule] += high - low

    def claims(self, rule: str, called: set[str], worse: set[str]) -> None:
        """Count the rows that were called worse."""
        self.false[rule] += bool(called - worse)
        self.found[rule] += len(called & worse)

    def record(self, boards: int) -> dict[str, float | None]:
        """Return the shares and means over `boards`."""
        return {
            **{f"{rule}_coverage": round(self.held[rule] / boards, 4) for rule in RULES},
            **{f"{rule}_width": round(self.width[rule] / boards, 4) for rule in RULES},
            **{f"{rule}_false_claims": round(self.false[rule] / boards, 4) for rule in CLAIMING},
            **{
                f"{rule}_found": round(self.found[rule] / self.worse, 4) if self.worse else None
                for rule in CLAIMING
            },
        }


def tally_of(world: World, boards: int) -> Tally:
    """Return what the verdict said of `boards` boards of one kind."""
    rng, tally = np.random.default_rng(2), Tally()
    for number in range(boards):
        measured, truths = world.draw(rng)
        standing = stand(measured, Accuracy(), number, REPLICATES)
        best = standing.best
        truth = truths[best.measured.name]
        every = [best, *(pair.other for pair in standing.pairs)]
        floor = former.floor_of(every)
        plain = limits(best)
        tally.limits("present", standing.interval.low, standing.interval.high, truth)
        tally.limits("former", *former.limits_of_picked(best, len(every), floor), truth)
        tally.limits("plain", plain.low, plain.high, truth)
        worse = {name for name, score in truths.items() if score < truth}
        tally.claims("present", names(p.other for p in standing.pairs if p.worse), worse)
        tally.claims("former", names(former.worse_than(best, every, floor)), worse)
        alone = zip(standing.pairs, holm([p.comparison.p for p in standing.pairs]), strict=True)
        tally.claims("narrow", names(pair.other for pair, p in alone if p < ALPHA), worse)
        tally.worse += len(worse)
    return tally


def names(some: Iterable[Resampled]) -> set[str]:
    """Return the techniques' names."""
    return {one.measured.name for one in some}


def print_boards(boards: int) -> list[dict[str, Any]]:
    """Print and return one line for each kind of board."""
    print(
        f"| {boards:,} boards of each kind | rows | coverage | mean width | former coverage "
        "| former width | plain coverage | plain width | false claims | former | over K - 1 pairs "
        "| worse rows found | former | over K - 1 pairs |"
    )
    print("|---|" + "--:|" * 13)
    records = []
    for world in worlds():
        start = time.process_time()
        found = tally_of(world, boards).record(boards)
        seconds = round(time.process_time() - start, 1)
        records.append({"kind": "world", "world": world.name, "n": world.n, "boards": boards})
        records[-1] |= {**found, "cpu_seconds": seconds}
        cells = [f"{found[f'{rule}_{what}']:{form}}" for rule in RULES for what, form in LIMITS]
        cells += [share(found[f"{rule}_{what}"]) for what in CLAIMS for rule in CLAIMING]
        print(f"| {world.name} | {world.n} | {' | '.join(cells)} |", flush=True)
    return records


def share(value: float | None) -> str:
    """Return a share in percent, nothing for none."""
    return "" if value is None else f"{value:.1%}"


def print_rows(tasks: int) -> list[dict[str, Any]]:
    """Print and return one line for each metric, number of rows, and number of seeds."""
    print(f"| score | rows | seeds | seed noise | coverage ({tasks} tasks) | mean width |")
    print("|---|--:|--:|--:|--:|--:|")
    records = []
    for case in coverage_rows.cases():
        held, width = case.coverage(tasks)
        start = f"| {case.name} | {case.n} | {case.seeds} | {case.noise}"
        print(f"{start} | {held:.1%} | {width:.3f} |", flush=True)
        records.append({"kind": "score", "score": case.name, "n": case.n, "seeds": case.seeds})
        records[-1] |= {"noise": case.noise, "tasks": tasks, "coverage": held, "width": width}
    return records


def main() -> None:
    """Simulate, print, and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("boards", "rows"))
    parser.add_argument("--worlds", type=int, default=1000, help="boards of each kind")
    parser.add_argument("--tasks", type=int, default=2000, help="tasks of each kind of score")
    options = parser.parse_args()
    about = machine.line()
    simulated = {
        "boards": lambda: print_boards(options.worlds),
        "rows": lambda: print_rows(options.tasks),
    }
    name = {"boards": "coverage", "rows": "coverage-rows"}[options.what]
    kept.write(name, [about, *simulated[options.what]()])


if __name__ == "__main__":
    main()
