"""The learning-rate search of one technique: short runs, each placed by what the others came to.

    learned   = dev loss at the end <= dev loss before the first step l0 - a,  a = 0.02 min(1, l0/2)
    nothing learned yet:   x1/64, then x1/16, below what diverged or made the loss worse; x16 above
                           what changed nothing; the geometric middle between the two
    the first to learn:    x4 and x1/4 around it
    a better one:          on in its direction by x4; by x16 while it answers like a constant
    all answer like a constant, near the answers' frequency: x1/16 below the lowest, once
    tries left over:       x2 and x1/2, then x1.4 and x1/1.4, around the best rate

The best rate is one that learned, if any did:

    s* = the highest dev score,  se = sqrt(s* (1 - s*) / n_dev)
    l* = the lowest dev loss among the rates whose dev score is at least s* - se
    best = the first of these, in the order they were tried, whose dev loss is at most l* + a

To answer like a constant is to have a dev score within the noise of the most frequent answer's, or
a dev loss no lower than that of answers by their frequency among the train rows, where the answers
are a closed set. Scores like a constant's count the same. A run that diverged is never
chosen; rates without a dev loss (dev rows whose steps are missing) are ranked by score alone; the
sealed test has no part in it. After a short run scores on few dev rows scatter, and many are 0,
where the loss on dev still tells rates apart. A good start is tried with x4 and x1/4 and that is
all; starts a hundred times too high or too low are left behind (`bench/bad_start.py`).

Source: the one-standard-error rule (Breiman, Friedman, Olshen, Stone 1984, section 3.4.3), with the
loss in the place of the simplest model; stepping out until the best is bracketed (Press, Teukolsky,
Vetterling, Flannery 2007, section 10.1), here on the logarithm of the rate. The factors are ours
(docs/log.md). Cost: see `plan.py`; it is inside the technique's share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from savile.ladder.plan import Cell

Result = Mapping[str, Any]
Piece = Callable[[int, float], Result]
"""Runs (or reads) search piece number i with a learning rate; returns its result."""

AS_GOOD: Final = 0.02
"""Nats a token that tell nothing apart: a rate four times the default that looked better by 0.001
after a short run did not train with two of five seeds (docs/log.md)."""
SMALL_LOSS: Final = 2.0
"""Below this, losses are told apart by their part of the start: comparing pairs starts at 0.69, and
ranking 56 % of them right takes 0.007 off."""
STEP: Final = 4.0
"""Distance of neighboring learning rates."""
STRIDE: Final = 16.0
"""A step from a rate that has yet to learn: what lies between is within a step of either end."""
LEAP: Final = 64.0
"""The first step down from a rate that is too high to learn at all."""
FLAT: Final = 0.1
"""Part of the starting loss that a higher rate takes off at least, where a lower one was too slow:
0.15 to 0.67 in trials that started a hundred times too low, 0.04 in one far too high."""
PLATEAU: Final = 1.25
"""Losses up to this multiple of the answers' frequency's are about as good as it."""
REFINED: Final = (2.0, math.sqrt(2.0))
"""Distances for tries that are left when the best is bracketed."""
SAME: Final = 1.01
"""Rates are rounded to three digits: a distance this much wider is the same."""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """What tells one learning rate's piece from another's."""

    n_dev: int
    """Dev rows, which say how much a score scatters."""
    top: float = 1.0
    """The metric's highest score."""
    constant: float = 0.0
    """Dev score of the most frequent answer."""
    prior: float = math.inf
    """Dev loss of answers by their frequency among the train rows; infinite where not known."""

    @property
    def floor(self) -> float:
        """The highest dev score that a constant answer may get by chance."""
        return self.constant + 2 * self.noise(self.constant)

    def far(self, result: Result) -> bool:
        """Return whether a piece answers like a constant, which its question does not change."""
        low = float(result["dev_score"]) <= self.floor
        return low or (math.isfinite(self.prior) and _loss(result) >= self.prior - AS_GOOD)

    def flat(self, lower: Result, higher: Result) -> bool:
        """Return whether two rates both came about as far as the answers' frequency, the higher one
        hardly further: what is too slow for more has yet to come there, or gains."""
        gained, start = _loss(lower) - _loss(higher), lower.get("start_loss") or 0.0
        return _loss(lower) <= PLATEAU * self.prior < math.inf and gained < FLAT * start

    def noise(self, score: float) -> float:
        """Return the standard error of a score on the dev rows, as of a share of right answers."""
        share = min(max(score / self.top, 0.0), 1.0)
        return self.top * math.sqrt(share * (1 - share) / max(self.n_dev, 1))

    def best(self, results: Sequence[Result]) -> Result | None:
        """Return the piece whose rate is to train with, None when every piece failed."""
        good = [r for r in results if r["status"] == "ok" and r["dev_score"] is not None]
        good = [r for r in good if learned(r)] or good
        if not good:
            return None
        highest = max(map(self._score, good))
        tied = [r for r in good if self._score(r) >= highest - self.noise(highest)]
        lowest = min(map(_loss, tied))
        return next(r for r in tied if _loss(r) <= lowest + as_good(r.get("start_loss")))

    def _score(self, result: Result) -> float:
        return max(float(result["dev_score"]), self.floor)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search came to."""

    learning_rate: float | None
    """The rate for the final run; None when every piece failed."""
    results: tuple[Result, ...] = ()
    """The pieces' results, in the order they ran."""

    @property
    def reached(self) -> float | None:
        """The dev loss that the short run with the best rate came to, None without one."""
        best = [r for r in self.results if r["learning_rate"] == self.learning_rate]
        loss = best[0]["dev_loss"] if best else None
        return None if loss is None else float(loss)

    @property
    def settings(self) -> dict[str, Any]:
        """The chosen learning rate, and the dev score of every rate that was tried."""
        tried = {f"{r['learning_rate']:g}": r.get("dev_score") for r in self.results}
        rate = {"learning_rate": self.learning_rate}
        return {**rate, "learning_rates_tried": tried} if tried else rate


def search(cell: Cell, attempt: Piece, ranking: Ranking) -> Found:
    """Try learning rates as long as the plan of `cell` allows and the next one may be better."""
    if not cell.piece:
        return Found(learning_rate=cell.learning_rate)
    results: list[Result] = []
    while (rate := next_rate(cell, results, ranking)) is not None:
        results.append(attempt(len(results), rate))
    best = ranking.best(results)
    chosen = None if best is None else float(best["learning_rate"])
    return Found(learning_rate=chosen, results=tuple(results))


def next_rate(cell: Cell, results: Sequence[Result], ranking: Ranking) -> float | None:
    """Return the learning rate to try after `results`, None when the search is over."""
    if not results:
        return _rounded(cell.learning_rate)
    if len(results) >= cell.most_tries or results[-1]["status"] not in ("ok", "diverged"):
        return None  # what failed for another reason fails with every rate
    best = ranking.best(results)
    if best is None or not learned(best):
        return _rounded(_away(results))
    at = float(best["learning_rate"])
    if (rate := _bracketing(at, results, ranking)) is not None:
        return rate
    if len(results) >= cell.tries:
        return None
    return next((r for factor in REFINED for r in _open_sides(at, results, factor)), None)


def learned(result: Result) -> bool:
    """Return whether a piece's dev loss fell; a piece without a loss to compare is believed."""
    return result["status"] == "ok" and _rise(result) <= -as_good(result.get("start_loss"))


def as_good(start: float | None) -> float:
    """Return the difference of dev losses that tells nothing, of what started at `start`."""
    return AS_GOOD if start is None else AS_GOOD * min(1.0, max(start, 0.0) / SMALL_LOSS)


def _away(results: Sequence[Result]) -> float:
    """Return a rate away from those with which nothing was learned."""
    high = [r for r in results if r["status"] != "ok" or _rise(r) > as_good(r.get("start_loss"))]
    lowest = min((float(r["learning_rate"]) for r in high), default=math.inf)
    highest = max((float(r["learning_rate"]) for r in results if r not in high), default=0.0)
    if not highest:
        return lowest / (LEAP if len(high) == 1 else STRIDE)
    return highest * STRIDE if math.isinf(lowest) else math.sqrt(highest * lowest)


def _rise(result: Result) -> float:
    """Return by how much the dev loss rose from before the first step; minus infinity where no
    loss is comparable."""
    start, end = result.get("start_loss"), result["dev_loss"]
    return -math.inf if start is None or end is None else float(end) - float(start)


def _bracketing(at: float, results: Sequence[Result], ranking: Ranking) -> float | None:
    """Return the next rate until the best one, `at`, has a neighbor on both sides.

    Three neighbors that all answer like a constant are too high, or slow: rates too low would have
    learned the more the higher they are.
    """
    by_rate = {float(r["learning_rate"]): r for r in results}
    rates, far = list(by_rate), ranking.far(by_rate[at])
    first = next(rate for rate, r in by_rate.items() if learned(r))
    downward = at < first
    beyond = not any(r < at if downward else r > at for r in rates)
    near = max(rates) <= min(rates) * STRIDE * SAME
    if at != first and beyond and far:
        if not downward and near and ranking.flat(by_rate[first], by_rate[at]):
            return _rounded(min(rates) / STRIDE)
        return _rounded(at / STRIDE if downward else at * STRIDE)
    if sides := _open_sides(at, results, STEP):
        return sides[-1] if downward else sides[0]
    return _rounded(min(rates) / STRIDE) if at == first and near and far else None


def _open_sides(at: float, results: Sequence[Result], factor: float) -> list[float]:
    """Return the rates a factor above and below `at` that nothing as near was tried beside."""
    rates = [float(r["learning_rate"]) for r in results]
    above = any(at < rate <= at * factor * SAME for rate in rates)
    below = any(at / factor / SAME <= rate < at for rate in rates)
    return [_rounded(at * factor)] * (not above) + [_rounded(at / factor)] * (not below)


def _loss(result: Result) -> float:
    return math.inf if result["dev_loss"] is None else float(result["dev_loss"])


def _rounded(rate: float) -> float:
    """Round to three digits, so that the board shows 0.0025 and not 0.00250000001."""
    return round(rate, 2 - math.floor(math.log10(abs(rate)))) if rate else rate
