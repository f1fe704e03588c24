"""What an answer is worth where the policy writes it: the same function for both sides."""

from __future__ import annotations

from collections.abc import Sequence


def variety(answers: Sequence[Sequence[int]]) -> list[float]:
    """Return the share of different tokens among each answer's: it costs nothing beside writing
    them, and the answers of a group differ in it, so that all of them teach.

    >>> variety([[5, 5, 6, 7], [1]])
    [0.75, 1.0]
    """
    return [len(set(ids)) / len(ids) for ids in answers]
