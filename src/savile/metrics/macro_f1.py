"""Macro-F1: the mean over labels of each label's F1, so that rare labels weigh as much as common
ones.

    F1_c = 2 tp_c / (2 tp_c + fp_c + fn_c)    macro-F1 = mean of F1_c over labels c with references

Source: Opitz and Burst 2019, arXiv 1911.03347 (the averaged F1, not the F1 of averages). Equal to
scikit-learn's `f1_score(average="macro", labels=<labels that occur in the references>)`; a label
that never occurs in the references has no F1 and is left out, so two techniques are always
averaged over the same labels (a wrong answer still costs its true label). An answer of None or
outside the set is a miss of the true label. With several accepted labels an accepted answer is the
truth, else the first.

Cost: three numbers a label and row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from savile.metrics.base import Array, Metric


@final
@dataclass(frozen=True, kw_only=True)
class MacroF1(Metric):
    """Mean F1 over the labels, 0 to 1."""

    needs: ClassVar[tuple[str, ...]] = ("labels",)

    def statistics(
        self,
        answers: Sequence[str | None],
        references: Sequence[Sequence[str]],
        labels: Sequence[str],
    ) -> Array:
        """Return one-hot (tp, fp, fn) of L labels a row: float64 [N, 3 L]."""
        truths = {reference.strip() for accepted in references for reference in accepted}
        known = [label.strip() for label in labels]
        index = {c: i for i, c in enumerate([*known, *sorted(truths.difference(known))])}
        tp, fp, fn = np.zeros((3, len(answers), len(index)))
        for row, (answer, accepted) in enumerate(zip(answers, references, strict=True)):
            given = None if answer is None else answer.strip()
            stripped = [reference.strip() for reference in accepted]
            if given is not None and given in stripped:
                tp[row, index[given]] = 1
                continue
            fn[row, index[stripped[0]]] = 1
            if given is not None and given in index:
                fp[row, index[given]] = 1
        return np.concatenate([tp, fp, fn], axis=1)

    def aggregate(self, total: Array) -> Array:
        """Return the mean F1 over labels with support: float64 [..., 3 L] -> [...]."""
        tp, fp, fn = np.split(total, 3, axis=-1)
        f1 = 2 * tp / np.maximum(2 * tp + fp + fn, 1.0)
        supported = (tp + fn) > 0
        result: Array = (f1 * supported).sum(-1) / np.maximum(supported.sum(-1), 1)
        return result
