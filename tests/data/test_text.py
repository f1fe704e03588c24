"""Folding and near duplicates: planted ones are found, different ones are not."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from savile.data.text import fold, near_duplicates


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Where is my card?", "where is my  card"),
        ("“Stop!” he said", "stop he said"),
        ("ﬁne", "fine"),
        ("cafe\u0301", "café"),
        ("a\u00a0b", "a b"),
        ("Well, yes.", "well yes"),
    ],
)
def test_fold_ignores_what_does_not_change_the_question(a: str, b: str) -> None:
    assert fold(a) == fold(b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("3 + 4", "3 - 4"),
        ("1.5 kg", "15 kg"),
        ("1,5", "15"),
        ("a/b", "a b"),
        ("!", "?"),
        ("$5", "5"),
    ],
)
def test_fold_keeps_what_does(a: str, b: str) -> None:
    assert fold(a) != fold(b)


def sentence(rng: random.Random, n: int) -> list[str]:
    return [f"w{rng.randrange(500)}" for _ in range(n)]


def test_planted_near_duplicates_are_found_and_others_are_not() -> None:
    rng = random.Random(0)
    pool = [sentence(rng, rng.randrange(15, 60)) for _ in range(400)]
    planted = []
    for words in rng.sample(pool, 60):
        changed = list(words)
        changed[0] = "other"  # one pair of words differs: J = (n - 2) / n >= 13 / 15
        planted.append(changed)
    fresh = [sentence(rng, rng.randrange(15, 60)) for _ in range(200)]
    queries = [" ".join(words) for words in planted + fresh]
    found = near_duplicates(queries, [" ".join(words) for words in pool])
    assert [query for query, _, _ in found.pairs] == list(range(60))
    assert found.looked_up == 260


def brute(queries: list[str], pool: list[str]) -> set[int]:
    def pairs(text: str) -> set[str]:
        words = text.split()
        return {f"{a} {b}" for a, b in pairwise(words)} or set(words)

    return {
        q
        for q, query in enumerate(queries)
        for other in pool
        if len(pairs(query) & pairs(other)) >= 0.8 * len(pairs(query) | pairs(other)) > 0
    }


@pytest.mark.parametrize("seed", range(5))
def test_prefix_filtering_equals_comparing_everything(seed: int) -> None:
    rng = random.Random(seed)
    words = ["a", "b", "c", "d"]
    texts = [" ".join(rng.choices(words, k=rng.randrange(1, 8))) for _ in range(120)]
    queries, pool = texts[:50], texts[50:]
    found = near_duplicates(queries, pool)
    assert {query for query, _, _ in found.pairs} == brute(queries, pool)


@pytest.mark.parametrize("texts", [[], [""], ["", "!!"], ["one"]])
def test_texts_without_words(texts: list[str]) -> None:
    assert near_duplicates(["", "?"], texts).pairs == []
