"""Worked examples that are chosen for each question: the k rows of a pool nearest to it.

    BM25(q, d) = sum over words t of q: idf(t) f(t,d) (k1 + 1) / (f(t,d) + k1 (1 - b + b |d| / m))
    idf(t)     = ln(1 + (N - n(t) + 1/2) / (n(t) + 1/2))

f counts a word in a row, |d| is the row's words and m their mean over the pool, N its rows, n(t)
those that hold t. A row whose text is the question's own, but for case and spaces, is never shown:
so no row that is trained on sees itself, and no question sees its answer.

Source: Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond",
equation 3.15; the idf that is never negative is Lucene's. For demonstrations: Liu et al. 2022,
arXiv 2101.06804 (by vectors); Rubin et al. 2022, arXiv 2112.08633 (BM25 as the strong baseline).
Own, since it is forty lines and ties go to the first row of the pool, on every machine: the ranking
is part of a prompt that must be the same bytes in evaluation and service.

Cost: the words of the pool once; a question touches only the rows that share a word with it.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Final, Literal

from savile.types import Example

K1: Final = 1.5
B: Final = 0.75
"""The middle of what Robertson and Zaragoza recommend (1.2 to 2, 0.5 to 0.8)."""
WORD: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\w+")
"""A word, or one sign of a script that writes no spaces (Chinese, Japanese)."""
BASE: Final = "base"
"""The embedder that is the base itself."""

Order = Literal["nearest_last", "nearest_first"]


def words(text: str) -> list[str]:
    """Return the words of a text without case.

    Example: "Where's MY card?" -> ["where", "s", "my", "card"].
    """
    return WORD.findall(text.casefold())


def same(text: str) -> str:
    """Return what is equal for texts that differ in case and spaces alone."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


class BM25:
    """The words of a pool, ready to be asked."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Weigh the words of every text."""
        counts = [Counter(words(text)) for text in texts]
        mean = sum(count.total() for count in counts) / max(len(counts), 1)
        self.size = len(counts)
        self._rows: dict[str, list[tuple[int, float]]] = {}
        for number, count in enumerate(counts):
            norm = K1 * (1 - B + B * count.total() / (mean or 1.0))
            for word, f in count.items():
                self._rows.setdefault(word, []).append((number, f * (K1 + 1) / (f + norm)))

    def scores(self, text: str) -> list[float]:
        """Return the BM25 of every row for a question [N]."""
        found = [0.0] * self.size
        for word, times in Counter(words(text)).items():
            rows = self._rows.get(word, [])
            idf = times * math.log(1 + (self.size - len(rows) + 0.5) / (len(rows) + 0.5))
            for number, weight in rows:
                found[number] += idf * weight
        return found


@dataclass(frozen=True, kw_only=True)
class Retriever:
    """Finds the worked examples of a question; plain data, as the frame it belongs to."""

    pool: tuple[Example, ...]
    """Training rows to choose from."""
    k: int
    """How many are shown."""
    order: Order = "nearest_last"
    """Where the nearest one stands."""
    embedder: str = ""
    """What turns texts into vectors: `base`, or a sentence-transformers model; empty: their words
    are compared."""
    near: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Rows of the pool by question, nearest first, as far as they were looked up."""

    def shown(self, question: str) -> tuple[Example, ...]:
        """Return the examples of a question in the order they are shown.

        Raises:
            KeyError: an embedder's neighbors of this question were not looked up.
        """
        if self.embedder or question in self.near:
            rows = self.near[question]
        else:
            rows = self.by_words(question)
        found = tuple(self.pool[row] for row in rows)
        return found if self.order == "nearest_first" else found[::-1]

    def by_words(self, question: str) -> tuple[int, ...]:
        """Return the k rows that share most with a question, nearest first."""
        return self.nearest(question, self._words.scores(question))

    def nearest(self, question: str, scores: Sequence[float]) -> tuple[int, ...]:
        """Return the k rows of the highest scores [N], ties in the pool's order, without those that
        ask the same."""
        own = same(question)
        ranked = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)  # stable
        return tuple(islice((row for row in ranked if self._texts[row] != own), self.k))

    @cached_property
    def _texts(self) -> list[str]:
        return [same(row.input) for row in self.pool]

    @cached_property
    def _words(self) -> BM25:
        return BM25([row.input for row in self.pool])
