"""Does a prompt search claim a gain that is not there, and does it find one that is?

    python bench/prompt_search.py [--runs 1000] [--no-result]

Simulates searches whose true gains are known with the code of `searched_prompt`: its halving, its
record and its limits; only the scorer is made up. Rows have a difficulty of their own, which all
prompts share; each prompt adds noise of its own to each row. The claim is the gain of the best
rival over the given prompt, on the rows that chose it. Results go to `bench/results/` as JSON
lines; `table.py` makes the table of them.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

import kept
import machine
from savile.metrics.base import Array
from savile.prompts.base_halving import searched

SHARED = 0.7
"""Share of a row's variance that all prompts have in common."""
SHARPNESS = 1.5
"""Of probabilities: they lie between 0.1 and 0.9 for about half of the rows."""
GIVEN = 0.6
"""The true score of the given prompt."""


@dataclass(frozen=True, kw_only=True)
class World:
    """A kind of search."""

    rivals: int
    rows: int = 128
    """Training rows that may judge."""
    budget: int = 1024
    """Rows scored at most, summed over prompts."""
    right_or_wrong: bool = False
    """Whether a row's score is 0 or 1, not a probability."""
    planted: float = 0.0
    """The true gain of one rival; the others are as good as the given prompt."""

    @property
    def scores(self) -> Array:
        """The true score of every prompt, the given one first, the better one last."""
        return np.array([GIVEN] * self.rivals + [GIVEN + self.planted])

    def draw(self, rng: np.random.Generator) -> Array:
        """Return the scores of every prompt on every row: float64 [rivals + 1, rows]."""
        shared = math.sqrt(SHARED) * rng.normal(size=self.rows)
        own = math.sqrt(1 - SHARED) * rng.normal(size=(self.rivals + 1, self.rows))
        latent = shared + own
        if self.right_or_wrong:
            return (latent + ndtri(self.scores)[:, None] > 0).astype(np.float64)
        middle = ndtri(self.scores) * math.sqrt(1 + SHARPNESS**2) / SHARPNESS
        found: Array = ndtr(SHARPNESS * (latent + middle[:, None]))
        return found


SAME = (
    World(rivals=1),
    World(rivals=7),
    World(rivals=15),
    World(rivals=63),
    World(rivals=15, rows=32, budget=256),
    World(rivals=15, rows=1024, budget=8192),
    World(rivals=7, right_or_wrong=True),
    World(rivals=15, right_or_wrong=True),
    World(rivals=63, right_or_wrong=True),
    World(rivals=15, rows=32, budget=256, right_or_wrong=True),
)
PLANTED = (
    replace(World(rivals=15), planted=0.05),
    replace(World(rivals=15), planted=0.1),
    replace(World(rivals=15), planted=0.2),
    World(rivals=15, rows=512, budget=4096, planted=0.05),
    World(rivals=15, rows=512, budget=4096, planted=0.1),
    World(rivals=15, right_or_wrong=True, planted=0.1),
    World(rivals=15, right_or_wrong=True, planted=0.2),
)


def measure(world: World, runs: int) -> dict[str, Any]:
    """Return how often the limits of a search hold the true gain of what it picked."""
    names = [f"prompt {number}" for number in range(world.rivals + 1)]
    held = plain = sure = found = 0
    claimed, true, last = [], [], []
    for run in range(runs):
        drawn = world.draw(np.random.default_rng([world.rivals, world.rows, run]))
        _, said = searched(
            names,
            world.rows,
            world.budget,
            lambda one, rows, drawn=drawn: drawn[one, rows.start : rows.stop].tolist(),
        )
        best = max(said.tried[1:], key=lambda tried: (tried.rows, tried.score - tried.given))
        gain = float(world.scores[names.index(best.name)]) - GIVEN
        half = said.high - said.gain  # the limits of a prompt that was not picked
        held += said.low <= gain <= said.high
        plain += abs(said.gain - gain) <= half
        sure += said.low > 0
        found += best.name == names[-1]
        claimed.append(said.gain)
        true.append(gain)
        last.append(said.rows)
    return {
        "coverage": held / runs,
        "plain_coverage": plain / runs,
        "sure": sure / runs,
        "found": found / runs,
        "claimed_gain": float(np.mean(claimed)),
        "true_gain": float(np.mean(true)),
        "last_rows": float(np.mean(last)),
    }


def main() -> None:
    """Simulate, print, and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000, help="searches of each kind")
    parser.add_argument("--no-result", action="store_true", help="print only")
    options = parser.parse_args()
    lines = [machine.line()]
    for world in (*SAME, *PLANTED):
        start = time.process_time()
        record = {"kind": "search", "runs": options.runs, **vars(world)}
        record |= measure(world, options.runs)
        lines.append({**record, "cpu_seconds": round(time.process_time() - start, 1)})
        print(json.dumps(lines[-1]), flush=True)
    if not options.no_result:
        kept.write("prompt-search", lines)


if __name__ == "__main__":
    main()
