"""Token F1: the overlap of words between answer and reference, best over the references.

    F1 = 2 |common| / (|answer| + |reference|)    of bags of words; the mean over rows

Source: Rajpurkar et al. 2016, arXiv 1606.05250 (SQuAD's official script): lower case, no ASCII
punctuation, no English articles, white space folded. Two empty texts agree (SQuAD 2.0's rule).

Cost: one bag of words a text.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from savile.metrics.base import Array, Metric, mean_of_rows, ratio

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


@final
@dataclass(frozen=True, kw_only=True)
class TokenF1(Metric):
    """Mean word overlap with the best reference, 0 to 1."""

    needs: ClassVar[tuple[str, ...]] = ("text",)

    def statistics(
        self,
        answers: Sequence[str | None],
        references: Sequence[Sequence[str]],
        labels: Sequence[str],
    ) -> Array:
        """Return (best F1, 1) a row: float64 [N, 2]."""
        return mean_of_rows(
            [
                0.0 if answer is None else max(overlap(answer, r) for r in accepted)
                for answer, accepted in zip(answers, references, strict=True)
            ]
        )

    def aggregate(self, total: Array) -> Array:
        """Return the mean over rows."""
        return ratio(total)


def words(text: str) -> list[str]:
    """Return the words that count, for example `The cat!` -> ["cat"]."""
    return ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split()


def overlap(answer: str, reference: str) -> float:
    """Return the F1 of two bags of words."""
    got, wanted = Counter(words(answer)), Counter(words(reference))
    total = got.total() + wanted.total()
    if not got or not wanted:
        return float(got == wanted)
    return 2 * (got & wanted).total() / total
