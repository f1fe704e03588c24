"""What needs no language model: the most frequent answer, and the nearest training row's answer.

    majority(x)          = the most frequent output of train (closed sets)
    nearest_neighbor(x)  = output of argmax over train rows t of cos(tfidf(x), tfidf(t))

Source: the trivial baselines of scikit-learn's `DummyClassifier`; 1-nearest neighbor (Cover and
Hart 1967) on TF-IDF weights (Salton and Buckley 1988) of character n-grams. A technique that does
not beat them has learned nothing that a look-up table does not know. Ties go to the first in
alphabetical order (majority) or in the file (neighbor). Cost: milliseconds.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sklearn.feature_extraction.text import TfidfVectorizer

from savile.types import Example, Prediction

Answer = Callable[[Sequence[Example], Sequence[Example]], list[str]]


ROWS_AT_ONCE = 256
"""Rows compared at once, so that memory is 2 kB a training row."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The answers of one baseline."""

    name: str
    predictions: tuple[Prediction, ...]
    seconds: float


def baselines(train: Sequence[Example], test: Sequence[Example], *, closed: bool) -> list[Baseline]:
    """Return the answers of every baseline that makes sense for the task; none without train."""
    if not train:
        return []
    members: dict[str, Answer] = {"nearest_neighbor": nearest_neighbor}
    if closed:
        members = {"majority": majority, **members}
    return [_timed(name, answer, train, test) for name, answer in members.items()]


def majority(train: Sequence[Example], test: Sequence[Example]) -> list[str]:
    """Answer every row with the most frequent output of `train`."""
    counts = Counter(example.output for example in train)
    best = min(counts, key=lambda output: (-counts[output], output))
    return [best] * len(test)


def nearest_neighbor(train: Sequence[Example], test: Sequence[Example]) -> list[str]:
    """Answer every row with the output of the most similar training row."""
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    known = vectorizer.fit_transform([example.input for example in train])
    asked = vectorizer.transform([example.input for example in test])
    answers: list[str] = []
    for start in range(0, len(test), ROWS_AT_ONCE):
        alike = asked[start : start + ROWS_AT_ONCE] @ known.T
        answers += [train[i].output for i in alike.toarray().argmax(axis=1)]
    return answers


def _timed(
    name: str, answer: Answer, train: Sequence[Example], test: Sequence[Example]
) -> Baseline:
    started = time.perf_counter()
    answers = answer(train, test)
    seconds = time.perf_counter() - started
    predictions = tuple(
        Prediction(id=example.id, text=text, answer=text)
        for example, text in zip(test, answers, strict=True)
    )
    return Baseline(name=name, predictions=predictions, seconds=seconds)
