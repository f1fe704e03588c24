"""Answers of a base under a frame: a label of a closed set, or a text that the frame reads.

The same function serves every technique and every base, so a score never depends on how a technique
was made or on where its weights are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Final

import numpy as np

from savile.lm.base import Answer, Asked, Base
from savile.prompts.base import Frame
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
    asked = Asked(labels=frame.labels if closed(frame) else (), max_new_tokens=max_new_tokens)
    chats = [frame.messages(example) for example in examples]
    found: list[Prediction | None] = [None] * len(examples)
    with closing(base.answers(chats, asked)) as groups:
        for group in groups:
            for row, answer in group:
                found[row] = _prediction(frame, examples[row], answer)
            if on_rows is not None:
                on_rows(len(group))
    return [prediction for prediction in found if prediction is not None]


def closed(frame: Frame) -> bool:
    """Return whether answers are chosen from labels rather than written."""
    return bool(frame.labels) and not frame.reasoning


def answer_limit(base: Base, frame: Frame, train: Sequence[Example]) -> int:
    """Return how many tokens an answer may take: a quarter over the longest wanted one, plus 8.

    Where steps are asked for and no row shows any, there is `ROOM_TO_THINK`.
    """
    longest = max((base.answer_tokens(frame.target(row)) for row in train), default=64)
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


def _prediction(frame: Frame, example: Example, answer: Answer) -> Prediction:
    return Prediction(
        id=example.id,
        text=answer.text,
        answer=answer.label if closed(frame) else frame.parse(answer.text),
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        seconds=answer.seconds,
        usd=answer.usd,
    )
