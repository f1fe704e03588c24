"""The few wrong answers that a row shows: what was asked, wanted and got.

They are the worst by the metric's score of the row alone, in the test's order. Where no answer
could be read out of some text, one of them shows such a text: there its form is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from savile.metrics.base import Array, Metric, matches
from savile.types import Example, Prediction

SHOWN: Final = 5
CHARACTERS: Final = 300


class _Wrong(NamedTuple):
    example: Example
    prediction: Prediction
    score: float

    @property
    def unread(self) -> bool:
        return self.prediction.answer is None


def mistakes(
    metric: Metric,
    test: Sequence[Example],
    predictions: Sequence[Prediction],
    statistics: Array,
) -> tuple[Mapping[str, str], ...]:
    """Return `input`, `expected` and `got` of a few wrong answers.

    Args:
        metric: of the board.
        test: its rows.
        predictions: one a row.
        statistics: the metric's, float64 [N, S].
    """
    scores = [float(score) for score in metric.aggregate(statistics)]
    rows = map(_Wrong, test, predictions, scores)
    wrong = [row for row in rows if is_mistake(row, metric.top)]
    wrong.sort(key=lambda row: row.score)
    shown, rest = wrong[:SHOWN], wrong[SHOWN:]
    unread = next((row for row in rest if row.unread), None)
    if unread is not None and not any(row.unread for row in shown):
        shown[-1] = unread
    return tuple(
        {
            "input": clipped(row.example.input),
            "expected": clipped(row.example.output),
            "got": _got(row.prediction),
        }
        for row in shown
    )


def unread(answers: Sequence[Sequence[Prediction]]) -> str | None:
    """Return what to know about a score some of whose answers could not be read, from every seed's
    answers; None where all could."""
    every = [prediction.answer is None for seed in answers for prediction in seed]
    if not any(every):
        return None
    share = 100 * sum(every) / len(every)
    return f"no answer could be read in {share:.1f} % of its texts, which count as wrong"


def is_mistake(row: _Wrong, top: float) -> bool:
    """A row below the top; the wanted text itself is never one (BLEU of two words is 0)."""
    return not matches(row.prediction.answer, row.example.accepted) and row.score < top * (1 - 1e-9)


def clipped(text: str) -> str:
    """Return a text of at most `CHARACTERS`."""
    return text if len(text) <= CHARACTERS else text[: CHARACTERS - 1] + "…"


def _got(prediction: Prediction) -> str:
    if prediction.answer is not None:
        return clipped(prediction.answer)
    return f"(no answer in it) {clipped(prediction.text)}"
