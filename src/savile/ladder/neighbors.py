"""Looks up the nearest examples of questions, before any delta changes the base.

    near(x) = the k rows t of the pool with the highest cos(v(x) - m, v(t) - m),  m = mean v(pool)

Vectors and neighbors are kept for the whole run, so that every seed and search piece looks once.
Examples that are found by words are looked up here too, once instead of at every prompt; a frame
whose examples are the same for every question needs nothing.

Source: arXiv 2101.06804 (nearest by vectors); 1702.01417 (without the common mean).
Cost: one pass over the pool, one over the questions; a product of [questions, pool].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from savile.lm import encoder, sentences
from savile.lm.base import Base
from savile.lm.local import Local
from savile.lm.states import Vectors, mean_states
from savile.prompts.base import Frame
from savile.retrieval import BASE, Retriever
from savile.types import Example

QUESTIONS_AT_ONCE = 256
"""Questions compared with the pool at once, so that memory is 1 kB a row of it."""


Near = dict[str, tuple[int, ...]]
"""Rows of the pool by question, nearest first."""


@dataclass(frozen=True, kw_only=True)
class Neighbors:
    """What was looked up and embedded so far."""

    folder: Path = field(default_factory=Path)
    """Where relative folders of sentence encoders start (the spec's, or the exported one)."""
    found: dict[tuple[object, ...], Near] = field(default_factory=dict)
    """By what was looked for and by whose vectors."""
    embedded: dict[tuple[str, str], dict[str, Vectors]] = field(default_factory=dict)
    """Vectors of texts by what embedded them."""

    def located(self, base: Base, frame: Frame, rows: Sequence[Example]) -> Frame:
        """Return the frame with the neighbors of `rows` looked up.

        Args:
            base: what the frame is for, with nothing attached.
            frame: as its prompts made it.
            rows: every question it will be asked.

        Raises:
            EnvironmentProblem: the sentence encoder is not here.
        """
        retriever = frame.retriever
        if retriever is None:
            return frame
        whose = (retriever.pool, retriever.k, retriever.embedder, base.name)
        found = self.found.setdefault(whose, {})
        questions = dict.fromkeys(row.input for row in rows)
        new = [question for question in questions if question not in found]
        if retriever.embedder:
            self._by_vectors(base, retriever, new, found)
        else:
            found.update((question, retriever.by_words(question)) for question in new)
        near = {question: found[question] for question in questions}
        return replace(frame, retriever=replace(retriever, near=near))

    def _by_vectors(
        self, base: Base, retriever: Retriever, questions: Sequence[str], found: Near
    ) -> None:
        texts = [*(row.input for row in retriever.pool), *questions]
        pool, asked = np.split(
            self._vectors(base, retriever.embedder, texts), [len(retriever.pool)]
        )
        mean = pool.mean(0)
        pool, asked = _unit(pool - mean), _unit(asked - mean)
        for start in range(0, len(questions), QUESTIONS_AT_ONCE):
            part = questions[start : start + QUESTIONS_AT_ONCE]
            own = asked[start : start + QUESTIONS_AT_ONCE]
            for question, scores in zip(part, own @ pool.T, strict=True):
                found[question] = retriever.nearest(question, scores.tolist())

    def _vectors(self, base: Base, embedder: str, texts: Sequence[str]) -> Vectors:
        by_base = base.name if embedder == BASE else ""
        kept = self.embedded.setdefault((by_base, embedder), {})
        new = [text for text in dict.fromkeys(texts) if text not in kept]
        if new:
            kept.update(zip(new, self._embedded(base, embedder, new), strict=True))
        return np.stack([kept[text] for text in texts])

    def _embedded(self, base: Base, embedder: str, texts: Sequence[str]) -> Vectors:
        if embedder != BASE:
            found = encoder.find(embedder, self.folder)
            return sentences.encode(embedder if found is None else str(found.absolute()), texts)
        assert isinstance(base, Local), "states were asked of a base without weights"
        return mean_states(base.lm, texts)


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12))
