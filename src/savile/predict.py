"""Answers of a model under a frame: the best label of a closed set, or generated text.

A closed set is scored over the trie of its labels, one tree for many questions: the label with the
highest log-likelihood of all its tokens and the end of turn wins, so no answer is unparseable and a
label that is a prefix of another is no special case. Everything else is greedy generation.
The same function serves every technique, so a score never depends on how a technique was made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np

from savile.lm.choose import Chooser
from savile.lm.generate import greedy
from savile.lm.model import LM
from savile.prompts.base import Frame
from savile.types import Example, Prediction

TOKENS_PER_TREE: Final = 4096
"""Own tokens of one tree in evaluation: large enough to fill the cores, small enough for the
cache."""
ROOM_TO_THINK: Final = 256
"""Tokens for steps of unknown length (lm-evaluation-harness' default for generated answers)."""
ROWS_PER_TREE: Final = 64
"""Most questions of one tree; generation holds keys and values for all of them."""

OnRows = Callable[[int], None]


def predict(
    lm: LM,
    frame: Frame,
    examples: Sequence[Example],
    *,
    max_new_tokens: int = 128,
    on_rows: OnRows | None = None,
) -> list[Prediction]:
    """Return one prediction per example, in their order.

    Args:
        lm: the model with whatever delta is attached.
        frame: how the prompt is written and the answer read.
        examples: the questions.
        max_new_tokens: where generated answers are cut.
        on_rows: called with the number of rows just finished.
    """
    prompts = [lm.encode_prompt(frame.messages(example)) for example in examples]
    answer = _Labels(lm, frame) if closed(frame) else _Texts(lm, max_new_tokens)
    found: list[Prediction | None] = [None] * len(examples)
    for rows in _packs(prompts):
        results = answer([prompts[row] for row in rows])
        for row, (text, written) in zip(rows, results, strict=True):
            found[row] = Prediction(
                id=examples[row].id,
                text=text,
                answer=text if closed(frame) else frame.parse(text),
                prompt_tokens=len(prompts[row]) + lm.root_tokens,
                completion_tokens=written,
            )
        if on_rows is not None:
            on_rows(len(rows))
    return [prediction for prediction in found if prediction is not None]


def closed(frame: Frame) -> bool:
    """Return whether answers are chosen from labels rather than written."""
    return bool(frame.labels) and not frame.reasoning


def answer_limit(lm: LM, frame: Frame, train: Sequence[Example]) -> int:
    """Return how many tokens an answer may take: a quarter over the longest wanted one, plus 8.

    Where steps are asked for and no row shows any, there is `ROOM_TO_THINK`.
    """
    longest = max((len(lm.encode_completion(frame.target(row))) for row in train), default=64)
    if frame.reasoning and not any(row.rationale for row in train):
        return max(longest + 8, ROOM_TO_THINK)
    return longest + longest // 4 + 8


def latency(
    lm: LM, frame: Frame, examples: Sequence[Example], *, max_new_tokens: int = 128
) -> tuple[float, float]:
    """Return the median and the 95th percentile of the seconds of single requests."""
    seconds = []
    for example in examples:
        start = time.perf_counter()
        predict(lm, frame, [example], max_new_tokens=max_new_tokens)
        seconds.append(time.perf_counter() - start)
    return float(np.percentile(seconds, 50)), float(np.percentile(seconds, 95))


def _packs(prompts: Sequence[list[int]]) -> Iterator[list[int]]:
    """Yield row numbers of like length; what all share counts once in a tree, so rows count
    their own tokens."""
    lengths = [len(prompt) for prompt in prompts]
    ends = (min(prompts), max(prompts)) if prompts else ([], [])
    shared = next((i for i, (a, b) in enumerate(zip(*ends, strict=False)) if a != b), len(ends[0]))
    pack: list[int] = []
    used = 0
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        own = lengths[row] - shared + 32
        if pack and (used + own > TOKENS_PER_TREE or len(pack) >= ROWS_PER_TREE):
            yield pack
            pack, used = [], 0
        pack.append(row)
        used += own
    if pack:
        yield pack


class _Labels:
    """Chooses from the frame's labels."""

    def __init__(self, lm: LM, frame: Frame) -> None:
        self.labels = frame.labels
        self.choices = [lm.encode_completion(label) for label in frame.labels]
        self.chooser = Chooser(lm, self.choices)

    def __call__(self, prompts: Sequence[Sequence[int]]) -> list[tuple[str, int]]:
        """Return the likeliest label of each prompt with its token count."""
        best = self.chooser.best(prompts)
        return [(self.labels[number], len(self.choices[number])) for number in best]


class _Texts:
    """Writes answers greedily."""

    def __init__(self, lm: LM, limit: int) -> None:
        self.lm, self.limit = lm, limit

    def __call__(self, prompts: Sequence[Sequence[int]]) -> list[tuple[str, int]]:
        """Return the greedy answer of each prompt with its token count."""
        lm = self.lm
        room = lm.context - lm.root_tokens
        limits = [min(self.limit, max(room - len(prompt), 1)) for prompt in prompts]
        answers: list[list[int]] = [[] for _ in prompts]
        for shared in set(limits):  # one, but near the end of the context: no row limits another
            rows = [row for row, own in enumerate(limits) if own == shared]
            for row, ids in zip(rows, greedy(lm, [prompts[r] for r in rows], shared), strict=True):
                answers[row] = ids
        return [(lm.template.decode(ids), len(ids)) for ids in answers]
