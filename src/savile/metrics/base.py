"""How answers are scored: sums of per-row statistics, then one aggregate.

Every metric, also a corpus metric such as BLEU or macro-F1, is `aggregate(sum of rows)`. So a score
never depends on batches or order, and a bootstrap is one matrix product of resampling weights with
the statistics. An answer of None (nothing could be extracted) counts as wrong.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class Metric(ABC):
    """A score in which more is better. Implementations are final, frozen, keyword-only
    dataclasses."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "use_attribute_docstrings": True,
    }
    needs: ClassVar[tuple[str, ...]] = ()
    """`labels` for metrics of a closed set, `text` for metrics of free text (wrong for label
    sets)."""
    binary: ClassVar[bool] = False
    """Whether each row is right or wrong (then exact binomial and McNemar statistics apply)."""
    top: ClassVar[float] = 1.0
    """The best possible score; the worst is 0."""

    @abstractmethod
    def statistics(
        self,
        answers: Sequence[str | None],
        references: Sequence[Sequence[str]],
        labels: Sequence[str],
    ) -> Array:
        """Return sufficient statistics, one row per answer.

        Args:
            answers: extracted answers, None where there was none.
            references: every acceptable answer of each row, at least one.
            labels: the closed set, empty for free text.

        Returns:
            float64 [N, S]; a binary metric has S = 2 with columns (right, 1).
        """

    @abstractmethod
    def aggregate(self, total: Array) -> Array:
        """Return scores from summed statistics: float64 [..., S] -> [...]."""

    def score(
        self,
        answers: Sequence[str | None],
        references: Sequence[Sequence[str]],
        labels: Sequence[str],
    ) -> float:
        """Return the score of a whole list of answers."""
        return float(self.aggregate(self.statistics(answers, references, labels).sum(axis=0)))


def mean_of_rows(values: Sequence[float]) -> Array:
    """Return statistics (value, 1) for a metric that is the mean of per-row values."""
    return np.stack([np.asarray(values, dtype=np.float64), np.ones(len(values))], axis=1)


def ratio(total: Array) -> Array:
    """Return first column over second: the aggregate of a mean."""
    result: Array = total[..., 0] / np.maximum(total[..., 1], 1.0)
    return result


def matches(answer: str | None, references: Sequence[str]) -> bool:
    """Return whether the answer, stripped of outer white space, is one of the references."""
    return answer is not None and answer.strip() in {reference.strip() for reference in references}
