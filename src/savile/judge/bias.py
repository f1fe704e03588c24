"""What a judge's verdicts say about the judge: does it look at the order, or at the length?

    first       share of single verdicts, ties left out, for the answer shown first; fair is 1/2
    consistent  share of pairs whose verdict is the same in both orders
    unread      share of single verdicts that were none of the three words
    longer      share of decided pairs of unequal length in which the longer answer won
    with_length correlation of the winner (+1 for a, -1 for b) with log(length of a / length of b)
    alike       value for `a` of pairs whose lengths differ by at most a tenth

A longer answer may be the better one, so `longer` alone is no bias: `alike` is what remains when
length says nothing. Pairs of one row vary together, and limits count the row once.

Source: Zheng et al. 2023, arXiv 2306.05685, sections 3.3 (position, verbosity) and 4 (consistency);
Dubois et al. 2024, arXiv 2404.04475 (length as what has to be held equal).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from savile import stats
from savile.judge.asking import Judged
from savile.stats import Interval

ALIKE: Final = 1.1
"""Ratio of lengths up to which answers count as equally long."""


class Bias(NamedTuple):
    """Figures of one judge over asked pairs; None where there is nothing to count."""

    first: Interval | None
    consistent: Interval | None
    unread: Interval | None
    longer: Interval | None
    with_length: Interval | None
    alike: Interval | None


def of(judged: Sequence[Judged]) -> Bias:
    """Return the figures of verdicts; pairs that needed no judge say nothing about it."""
    asked = [one for one in judged if one.asked]
    decided = [one for one in asked if one.verdict != "tie" and one.lengths[0] != one.lengths[1]]
    won = [2 * one.value - 1 for one in decided]
    ratios = [_log_ratio(one) for one in decided]
    rows = [one.row for one in decided]
    return Bias(
        first=stats.share(
            [float((one.ab == "a") + (one.ba == "b")) for one in asked],
            [float(sum(v in ("a", "b") for v in (one.ab, one.ba))) for one in asked],
            _rows(asked),
        ),
        consistent=_mean([float(one.ab == one.ba is not None) for one in asked], asked),
        unread=_mean([((one.ab is None) + (one.ba is None)) / 2 for one in asked], asked),
        longer=_mean([float(w * r > 0) for w, r in zip(won, ratios, strict=True)], decided),
        with_length=stats.correlation(won, ratios, rows) if rows else None,
        alike=alike(asked),
    )


def alike(judged: Sequence[Judged]) -> Interval | None:
    """Return the value for `a` of pairs whose answers are equally long, within a tenth."""
    same = [one for one in judged if max(one.lengths) <= ALIKE * min(one.lengths)]
    return _mean([one.value for one in same], same)


def _log_ratio(one: Judged) -> float:
    return math.log(max(one.lengths[0], 1) / max(one.lengths[1], 1))


def _mean(values: Sequence[float], judged: Sequence[Judged]) -> Interval | None:
    return stats.share(values, [1.0] * len(values), _rows(judged))


def _rows(judged: Sequence[Judged]) -> list[str]:
    return [one.row for one in judged]
