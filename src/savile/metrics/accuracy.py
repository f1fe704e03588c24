"""Accuracy: the share of rows whose answer is the right label of a closed set.

    accuracy = right / n

Source: the definition; equal to scikit-learn's `accuracy_score`. Several accepted labels count as
one right answer; an answer of None is wrong, never dropped. Outer white space is ignored.

Cost: one comparison a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from savile.metrics.base import Array, Metric, matches, mean_of_rows, ratio


@final
@dataclass(frozen=True, kw_only=True)
class Accuracy(Metric):
    """Share of right labels, 0 to 1."""

    needs: ClassVar[tuple[str, ...]] = ("labels",)
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
