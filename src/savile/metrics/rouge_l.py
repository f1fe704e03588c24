"""ROUGE-L: the longest common subsequence of words of answer and reference, best over the
references.

    F = 2 P R / (P + R)    P = LCS / |answer|, R = LCS / |reference|; the mean over rows

Source: Lin 2004, ACL W04-1013; scored by the rouge-score package (Google's port), whose tokenizer
keeps only a-z and 0-9: texts in other scripts are empty to it and score 0.

Cost: |answer| x |reference| steps a pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from rouge_score.rouge_scorer import RougeScorer

from savile.metrics.base import Array, Metric, mean_of_rows, ratio


@final
@dataclass(frozen=True, kw_only=True)
class RougeL(Metric):
    """Mean ROUGE-L F1 with the best reference, 0 to 1."""

    needs: ClassVar[tuple[str, ...]] = ("text",)

    stemmer: bool = False
    """Whether English words are reduced to their stems (Porter) first."""

    def statistics(
        self,
        answers: Sequence[str | None],
        references: Sequence[Sequence[str]],
        labels: Sequence[str],
    ) -> Array:
        """Return (best F, 1) a row: float64 [N, 2]."""
        scorer = RougeScorer(["rougeL"], use_stemmer=self.stemmer)
        return mean_of_rows(
            [
                0.0 if answer is None else scorer.score_multi(accepted, answer)["rougeL"].fmeasure
                for answer, accepted in zip(answers, references, strict=True)
            ]
        )

    def aggregate(self, total: Array) -> Array:
        """Return the mean over rows."""
        return ratio(total)
