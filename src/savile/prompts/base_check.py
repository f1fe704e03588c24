"""What a frame may not be, whoever wrote it: a person may have edited its file by hand.

Types are checked where a file is read; here is what types do not say.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

from savile.prompts.base import Frame

LABELS_SHOWN = 12
MOST_SAMPLES: Final = 128
"""Answers that may be drawn for one question, as in `self_consistency`."""


class Fault(NamedTuple):
    """One thing that is wrong with a frame."""

    place: str
    """Dotted path of the field."""
    what: str
    expected: str = ""


def faults(frame: Frame) -> Iterator[Fault]:
    """Yield everything that would make a frame write no prompt, or read no answer."""
    yield from _labels(frame)
    yield from wrong_words(frame)
    yield from _drawing(frame)
    if frame.reasoning and not frame.answer_marker:
        yield Fault("answer_marker", "is empty: no answer could be found after it")
    for number, text in enumerate(frame.stop):
        if not text:
            yield Fault(f"stop.{number}", "is an empty text, which would end every answer at once")
    if frame.calibration is not None and not frame.calibration.inputs:
        yield Fault("calibration.inputs", "is empty: there is nothing to calibrate by")
    retriever = frame.retriever
    if retriever is None:
        return
    if retriever.k < 1:
        yield Fault("retriever.k", f"is {retriever.k}", "at least 1")
    for question, rows in retriever.near.items():
        if any(not 0 <= row < len(retriever.pool) for row in rows):
            where = f"names a row that is not among the {len(retriever.pool)} of the pool"
            yield Fault(f"retriever.near.{question[:40]}", where)


def wrong_words(frame: Frame) -> Iterator[Fault]:
    """Yield what is wrong with the words of labels: of no label, empty, or of two labels."""
    labels, words = frame.labels, frame.format.words
    shown = ", ".join(labels[:LABELS_SHOWN])
    known = f"labels: {shown}" if labels else "a closed set (prompt.labels)"
    for label, word in words.items():
        if label not in labels:
            yield Fault("format.words", f"{label!r} is no label", known)
        if not word.strip():
            yield Fault("format.words", f"the label {label!r} has no words")
    for word, times in sorted(Counter(frame.label_words).items()):
        if words and times > 1:
            yield Fault("format.words", f"{word!r} stands for two labels")


def _labels(frame: Frame) -> Iterator[Fault]:
    for number, label in enumerate(frame.labels):
        if not label.strip():
            yield Fault(f"labels.{number}", f"is {label!r}, an answer that nobody can see")
    for label, times in Counter(frame.labels).items():
        if times > 1:
            yield Fault("labels", f"holds {label!r} twice")


def _drawing(frame: Frame) -> Iterator[Fault]:
    if not 1 <= frame.samples <= MOST_SAMPLES:
        yield Fault("samples", f"is {frame.samples}", f"at least 1, at most {MOST_SAMPLES}")
    if not 0.0 <= frame.temperature < math.inf:
        yield Fault("temperature", f"is {frame.temperature:g}", "at least 0, and finite")
    if not 0.0 < frame.top_p <= 1.0:
        yield Fault("top_p", f"is {frame.top_p:g}", "above 0, at most 1")
    if frame.samples > 1 and frame.temperature == 0.0:
        yield Fault("temperature", f"is 0, and all {frame.samples} samples would be equal")
