"""BM25 against its formula written out, and what a retriever shows and never shows."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from savile.retrieval import BM25, K1, B, Order, Retriever, same, words
from savile.types import Example

POOL = (
    "my card has not arrived",
    "the card machine ate my card card",
    "where is my transfer",
    "why was the transfer declined twice",
    "",
    "?!",
)
SENTENCES = st.lists(
    st.lists(st.sampled_from("abcdef"), max_size=6).map(" ".join), min_size=1, max_size=8
)


def plain(pool: list[str], question: str) -> list[float]:
    """The formula of the module's header, term by term."""
    rows = [words(text) for text in pool]
    mean = sum(map(len, rows)) / len(rows)
    found = []
    for row in rows:
        total = 0.0
        for word in words(question):
            holding = sum(word in other for other in rows)
            if not holding:
                continue
            idf = math.log(1 + (len(rows) - holding + 0.5) / (holding + 0.5))
            f = row.count(word)
            total += idf * f * (K1 + 1) / (f + K1 * (1 - B + B * len(row) / mean))
        found.append(total)
    return found


@pytest.mark.parametrize(
    "question", ["my card", "card card arrived", "unknown", "", "THE Transfer?"]
)
def test_bm25_is_its_formula(question: str) -> None:
    np.testing.assert_allclose(BM25(POOL).scores(question), plain(list(POOL), question), rtol=1e-12)


@given(SENTENCES, st.lists(st.sampled_from("abcdefg"), max_size=5).map(" ".join))
def test_bm25_is_its_formula_on_any_words(pool: list[str], question: str) -> None:
    if any(map(words, pool)):
        np.testing.assert_allclose(BM25(pool).scores(question), plain(pool, question), rtol=1e-12)


def test_scripts_without_spaces_have_words() -> None:
    assert words("我的卡 card2 カード") == ["我", "的", "卡", "card2", "カ", "ー", "ド"]
    card, money = BM25(["我的卡", "你的钱"]).scores("卡在哪里")
    assert card > money == 0


def rows(*texts: str) -> tuple[Example, ...]:
    return tuple(Example(id=f"{i}", input=text, output=f"o{i}") for i, text in enumerate(texts))


def test_the_nearest_stands_where_it_is_asked_for() -> None:
    pool = rows("a b c", "a b", "a", "z")
    first = Retriever(pool=pool, k=3, order="nearest_first")
    last = Retriever(pool=pool, k=3)
    assert [row.input for row in first.shown("a b c d")] == ["a b c", "a b", "a"]
    assert last.shown("a b c d") == first.shown("a b c d")[::-1]


@pytest.mark.parametrize("question", ["my card?", "MY  card?", "ｍｙ card?"])
def test_a_row_that_asks_the_same_is_never_shown(question: str) -> None:
    pool = rows("my card?", "My Card?", "my cards", "other")
    shown = Retriever(pool=pool, k=3).shown(question)
    assert [row.id for row in shown] == ["3", "2"]


@given(SENTENCES, st.integers(1, 4), st.sampled_from(["nearest_last", "nearest_first"]))
def test_every_row_is_left_out_of_its_own_neighbors(texts: list[str], k: int, order: Order) -> None:
    pool = rows(*texts)
    retriever = Retriever(pool=pool, k=k, order=order)
    for row in pool:
        shown = retriever.shown(row.input)
        others = [other for other in pool if same(other.input) != same(row.input)]
        assert len(shown) == min(k, len(others))
        assert set(shown) <= set(others)


def test_ties_go_to_the_first_row_of_the_pool() -> None:
    pool = list(rows(*(f"a {i}" for i in range(40))))
    shown = Retriever(pool=tuple(pool), k=5, order="nearest_first").shown("nothing alike")
    assert [row.id for row in shown] == ["0", "1", "2", "3", "4"]
    random.Random(0).shuffle(pool)
    again = Retriever(pool=tuple(pool), k=5, order="nearest_first").shown("a")
    assert list(again) == pool[:5]


def test_what_was_looked_up_is_taken_and_vectors_must_be() -> None:
    pool = rows("a", "b", "c")
    known = Retriever(pool=pool, k=1, near={"x": (2,)})
    assert known.shown("x") == (pool[2],)
    assert known.shown("b c") == (pool[1],)
    with pytest.raises(KeyError):
        Retriever(pool=pool, k=1, embedder="base").shown("x")
