"""BLEU: how many n-grams (n = 1 to 4) of the answers occur in the references, over the whole
corpus.

    BLEU = 100 * exp(min(0, 1 - r / h)) * (p1 p2 p3 p4)^(1/4)    h, r: answer, reference words

Source: Papineni et al. 2002, ACL P02-1040; Post 2018, arXiv 1804.08771 (sacrebleu, whose
tokenizers, counts and exponential smoothing are used, so the score is sacrebleu's, 0 to 100). Each
row gives its ten counts (h, r, four matches, four totals); BLEU is computed from their sums. An
answer of None is an empty answer: it matches nothing and shortens the corpus.

Cost: one n-gram count a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np
from sacrebleu.metrics.bleu import BLEU

from savile.metrics.base import Array, Metric

ORDER = 4


@final
@dataclass(frozen=True, kw_only=True)
class Bleu(Metric):
    """Corpus BLEU as sacrebleu counts it, 0 to 100."""

    needs: ClassVar[tuple[str, ...]] = ("text",)
    top: ClassVar[float] = 100.0

    tokenize: Literal["13a", "intl", "char", "none", "zh"] = "13a"
    """sacrebleu's tokenizer: `13a` for most languages, `zh` or `char` for text without spaces."""
    lowercase: bool = False
    """Whether case is ignored."""

    def statistics(
        self,
        answers: Sequence[str | None],
        references: Sequence[Sequence[str]],
        labels: Sequence[str],
    ) -> Array:
        """Return (h, r, matches of 1..4, totals of 1..4) a row: float64 [N, 10]."""
        scorer = BLEU(tokenize=self.tokenize, lowercase=self.lowercase, force=True)
        rows = np.zeros((len(answers), 2 + 2 * ORDER))
        for row, (answer, accepted) in enumerate(zip(answers, references, strict=True)):
            found = scorer.corpus_score([answer or ""], [[reference] for reference in accepted])
            rows[row] = [found.sys_len, found.ref_len, *found.counts, *found.totals]
        return rows

    def aggregate(self, total: Array) -> Array:
        """Return BLEU of summed counts, exponentially smoothed: float64 [..., 10] -> [...]."""
        h, r = total[..., 0], total[..., 1]
        counts, totals = total[..., 2 : 2 + ORDER], total[..., 2 + ORDER :]
        missed = (counts == 0) & (totals > 0)
        smoothed = np.where(missed, 0.5 ** np.cumsum(missed, axis=-1), counts)
        usable = np.asarray((totals > 0).all(axis=-1) & (counts > 0).any(axis=-1))
        precisions = np.where(usable[..., None], smoothed / np.maximum(totals, 1.0), 1.0)
        brevity = np.minimum(0.0, 1.0 - r / np.maximum(h, 1.0))
        result: Array = usable * 100.0 * np.exp(brevity + np.log(precisions).mean(axis=-1))
        return result
