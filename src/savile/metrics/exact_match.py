"""Exact match: the share of rows whose text is an accepted answer, letter by letter.

    exact match = right / n

Source: Rajpurkar et al. 2016, arXiv 1606.05250 (SQuAD). Unlike SQuAD nothing is normalized but
outer white space: case, articles and punctuation count, because a product sees them. Use
`token_f1` for the forgiving variant.

Cost: one comparison a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from savile.metrics.base import Array, Metric, matches, mean_of_rows, ratio


@final
@dataclass(frozen=True, kw_only=True)
class ExactMatch(Metric):
    """Share of answers equal to an accepted answer, 0 to 1."""

    binary: ClassVar[bool] = True

    def statistics(
        self,
        answers: Sequence[str | None],
        references: Sequence[Sequence[str]],
        labels: Sequence[str],
    ) -> Array:
        """Return (right, 1) a row: float64 [N, 2]."""
        pairs = zip(answers, references, strict=True)
        return mean_of_rows([float(matches(answer, accepted)) for answer, accepted in pairs])

    def aggregate(self, total: Array) -> Array:
        """Return right / n."""
        return ratio(total)
