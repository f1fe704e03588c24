"""Answers of a base under a frame: a label of a closed set, or a text that the frame reads.

The same function serves every technique and every base, so a score never depends on how a technique
was made or on where its weights are. Where a frame asks for several samples, the answer is that of
most of them (Wang et al. 2022, arXiv 2203.11171).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Final

import numpy as np

from savile.lm.base import Answer, Asked, Base
from savile.prompts.base import Frame, folded
from savile.types import Example, Prediction

ROOM_TO_THINK: Final = 256
"""Tokens for steps of unknown length (lm-evaluation-harness' default for generated answers)."""

OnRows = Callable[[int], None]


def predict(
    base: Base,
    frame: Frame,
    examples: Sequence[Example],
    *,
    max_new_tokens: int = 128,
    on_rows: OnRows | None = None,
) -> list[Prediction]:
    """Return one prediction per example, in their order.

    Args:
        base: what answers, with whatever delta is attached.
        frame: how the prompt is written and the answer read.
        examples: the questions.
        max_new_tokens: where generated answers are cut.
        on_rows: called with the number of rows just finished, 0 while a base waits; an exception
            it raises ends the work.
    """
    asked = asked_of(frame, max_new_tokens)
    if frame.calibration is not None and closed(frame):
        asked = replace(asked, neutral=tuple(frame.neutral(example) for example in examples))
    chats = [frame.messages(example) for example in examples]
    found: list[list[Answer]] = [[] for _ in examples]
    with closing(base.answers(chats, asked)) as groups:
        for group in groups:
            for row, answer in group:
                found[row].append(answer)
            if on_rows is not None:
                on_rows(len(group) // asked.n)
    both = zip(examples, found, strict=True)
    return [_prediction(frame, example, samples) for example, samples in both if samples]


def asked_of(frame: Frame, max_new_tokens: int) -> Asked:
    """Return how a frame's questions are to be answered."""
    return Asked(
        labels=frame.label_words if closed(frame) else (),
        length_normalized=frame.length_normalized and closed(frame),
        max_new_tokens=max_new_tokens,
        stop=() if closed(frame) else frame.stop,
        constraint=None if closed(frame) else frame.constraint,
        n=frame.samples,
        temperature=frame.temperature,
        top_p=frame.top_p,
        seed=frame.seed,
    )


def closed(frame: Frame) -> bool:
    """Return whether answers are chosen from labels rather than written."""
    return frame.closed


def answer_limit(base: Base, frame: Frame, train: Sequence[Example]) -> int:
    """Return how many tokens an answer may take: a quarter over the longest wanted one, plus 8.

    Where steps are asked for and no row shows any, there is `ROOM_TO_THINK`.
    """
    shown = [*train, *frame.demonstrations]
    longest = max((base.answer_tokens(frame.target(row)) for row in shown), default=64)
    if frame.reasoning and not any(row.rationale for row in train):
        return max(longest + 8, ROOM_TO_THINK)
    return longest + longest // 4 + 8


def single_requests(
    base: Base, frame: Frame, examples: Sequence[Example], *, max_new_tokens: int = 128
) -> list[float]:
    """Return the seconds of each example, asked alone."""
    seconds = []
    for example in examples:
        start = time.perf_counter()
        predict(base, frame, [example], max_new_tokens=max_new_tokens)
        seconds.append(time.perf_counter() - start)
    return seconds


def latency(seconds: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 95th percentile of the seconds of requests."""
    return float(np.percentile(seconds, 50)), float(np.percentile(seconds, 95))


def majority(
    answers: Sequence[str | None], same: Callable[[str], str] = folded
) -> tuple[int, float]:
    """Return the number of the first sample with the answer of most samples, and their share.

    The first of equally frequent ones wins; samples without an answer do not vote, but count in the
    share.

    Args:
        answers: one a sample.
        same: what is equal for answers that count as one; by default those that differ in case,
            spaces or a final period.

    Example: majority(["4", None, "5.", "5"]) == (2, 0.5)
    """
    read = [None if answer is None else same(answer) for answer in answers]
    counts = Counter(answer for answer in read if answer is not None)
    if not counts:
        return 0, 0.0
    ((winner, votes),) = counts.most_common(1)
    return read.index(winner), votes / len(answers)


def _prediction(frame: Frame, example: Example, samples: Sequence[Answer]) -> Prediction:
    answers = [_read(frame, one) for one in samples]
    best, votes = majority(answers, str if closed(frame) else folded)
    return Prediction(
        id=example.id,
        text=samples[best].text,
        answer=answers[best],
        prompt_tokens=sum(one.prompt_tokens for one in samples),
        completion_tokens=sum(one.completion_tokens for one in samples),
        seconds=_sum([one.seconds for one in samples]),
        usd=_sum([one.usd for one in samples]),
        votes=votes if len(samples) > 1 else None,
    )


def _read(frame: Frame, answer: Answer) -> str | None:
    if not closed(frame):
        return frame.parse(answer.text)
    return None if answer.label is None else frame.meant(answer.label)


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
