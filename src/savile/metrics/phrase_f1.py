"""Phrase F1: how many phrases of answer and reference are the same, best over the references.

    F1 = 2 |common| / (|answer| + |reference|)    of bags of phrases; the mean over rows

A phrase is what stands between punctuation marks or line ends. It counts when all of its words are
right, in order: a reply with the wrong name in its greeting loses the greeting, a missing sign-off
loses the sign-off, and every phrase that was not asked for counts against the answer, so neither a
longer nor a repeated reply gains anything. Use it for texts with fixed parts and facts in them
(a brand's voice, disclaimers, forms); `rouge_l` and `token_f1` give credit for words of a wrong
phrase.

Source: the F1 of SQuAD (Rajpurkar et al. 2016, arXiv 1606.05250), over phrases instead of words and
without its normalization: case counts, white space is folded. The order of phrases is ignored. Two
texts without a phrase agree.

Cost: one regular expression a text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from savile.metrics.base import Array, Metric, mean_of_rows, ratio

PHRASE_END = re.compile(r"[.,;:!?]+(?=\s|$)|[。、，；：！？]+|[\n\r]+")
"""An ASCII mark ends a phrase before white space only: `3.5`, `10:30` and `a.b@c.de` stay whole."""


@final
@dataclass(frozen=True, kw_only=True)
class PhraseF1(Metric):
    """Mean share of right phrases, 0 to 1."""

    needs: ClassVar[tuple[str, ...]] = ("text",)

    ignore_case: bool = False
    """Whether upper and lower case are the same."""

    def statistics(
        self,
        answers: Sequence[str | None],
        references: Sequence[Sequence[str]],
        labels: Sequence[str],
    ) -> Array:
        """Return (best F1, 1) a row: float64 [N, 2]."""
        return mean_of_rows(
            [
                0.0 if answer is None else max(self._overlap(answer, r) for r in accepted)
                for answer, accepted in zip(answers, references, strict=True)
            ]
        )

    def aggregate(self, total: Array) -> Array:
        """Return the mean over rows."""
        return ratio(total)

    def _overlap(self, answer: str, reference: str) -> float:
        if self.ignore_case:
            answer, reference = answer.casefold(), reference.casefold()
        return phrase_f1(answer, reference)


def phrases(text: str) -> list[str]:
    """Return the phrases of a text, for example `Dear Ann, it is 3.5 km.` -> ["Dear Ann", "it is
    3.5 km"]."""
    found = (" ".join(part.split()) for part in PHRASE_END.split(text))
    return [phrase for phrase in found if phrase]


def phrase_f1(answer: str, reference: str) -> float:
    """Return the F1 of two bags of phrases, 0 to 1."""
    got, wanted = Counter(phrases(answer)), Counter(phrases(reference))
    total = got.total() + wanted.total()
    return 2 * (got & wanted).total() / total if total else 1.0
