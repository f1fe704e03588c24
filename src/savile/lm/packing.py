"""Which examples go into one tree: as many as fit its budget, counted as tokens of the tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import TypeVar

from savile.lm.tree import Paths

T = TypeVar("T")


def packs(items: Sequence[T], tokens_per_tree: int, paths: Callable[[T], Paths]) -> list[list[T]]:
    """Divide items, shortest first, into packs whose trees have at most `tokens_per_tree` tokens.

    What all prompts begin with counts once a tree; what only some of them share is not foreseen.
    """
    every = [paths(item) for item in items]
    stem = shared_tokens(every)
    sizes = [own_tokens(one, stem) for one in every]
    found: list[list[T]] = []
    used = 0
    for number in sorted(range(len(items)), key=sizes.__getitem__):
        if not found or used + sizes[number] > tokens_per_tree:
            found.append([])
            used = stem
        found[-1].append(items[number])
        used += sizes[number]
    return found


def shared_tokens(every: Sequence[Paths]) -> int:
    """Return how many tokens all prompts begin with: as many as the first and the last in order."""
    if not every:
        return 0
    prompts = [list(one.prompt) for one in every]
    both = zip(min(prompts), max(prompts), strict=False)  # up to the end of the shorter one
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], both))


def own_tokens(one: Paths, stem: int) -> int:
    """Return what a prompt and its completions add to a tree that has their first `stem` tokens."""
    return len(one.prompt) - stem + sum(map(len, one.completions))
