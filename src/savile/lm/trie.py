"""The compressed trie of a list of choices, and how high the scores below a part of it can be.

    score(y) = scale(y) (log p(y | x) + bias(y))
    bound(s) = max over scales c of choices below s of c (log p(s | x) + highest bias below s)

No log-probability is above 0, so a partial choice's is no lower than that of any completion, and
the bound is never below a score that it stands for.

Source: admissible bounds: Hart, Nilsson, Raphael 1968 (A*).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

Bias = Sequence[float]
"""What is added to the log-probability of each choice, nats."""


class Segment(NamedTuple):
    """Tokens that follow each other without a choice."""

    tokens: list[int]
    whole: dict[int, int]
    """Tokens that complete a choice after this segment, with the choice's number."""
    partial: dict[int, int]
    """Tokens that start another segment, with its number."""


def segments_of(choices: Sequence[Sequence[int]]) -> list[Segment]:
    """Return the compressed trie of the choices; segment 0 is the empty start."""
    found: list[Segment] = []

    def add(numbers: list[int], start: int, tokens: list[int]) -> int:
        at = start + len(tokens)
        while True:  # extend while every choice goes on with one and the same token
            following = {choices[n][at] for n in numbers}
            ends = any(len(choices[n]) == at + 1 for n in numbers)
            if ends or len(following) > 1 or not tokens:
                break
            tokens = [*tokens, *following]
            at += 1
        place = len(found)
        found.append(Segment(tokens, {}, {}))
        for token in sorted({choices[n][at] for n in numbers}):
            group = [n for n in numbers if choices[n][at] == token]
            longer = [n for n in group if len(choices[n]) > at + 1]
            for n in group:
                if len(choices[n]) == at + 1:
                    found[place].whole[token] = n
            if longer:
                found[place].partial[token] = add(longer, at, [token])
        return place

    add(list(range(len(choices))), 0, [])
    return found


class Rule:
    """How log-probabilities become scores, and how high those below a segment can be."""

    def __init__(self, segments: Sequence[Segment], bias: Bias, scale: Sequence[float]) -> None:
        """Take the bias (nats) and the scale (above 0) of every choice."""
        self.bias, self.scale = bias, scale
        self._bias = [-math.inf] * len(segments)
        self._scales = [(math.inf, 0.0)] * len(segments)
        for number in reversed(range(len(segments))):  # what follows a segment comes after it
            whole, partial = segments[number].whole.values(), segments[number].partial.values()
            self._bias[number] = max(
                [*(bias[n] for n in whole), *(self._bias[below] for below in partial)]
            )
            scales = [(scale[n], scale[n]) for n in whole]
            scales += [self._scales[below] for below in partial]
            self._scales[number] = (min(low for low, _ in scales), max(high for _, high in scales))

    def score(self, choice: int, logprob: float) -> float:
        """Return the score of a whole choice."""
        return self.scale[choice] * (logprob + self.bias[choice])

    def bound(self, segment: int, logprob: float) -> float:
        """Return what no choice below a segment exceeds that begins with this log-probability."""
        most, (low, high) = logprob + self._bias[segment], self._scales[segment]
        return max(low * most, high * most)  # a negative value is nearest to 0 at the least scale
