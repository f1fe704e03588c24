"""Few-shot with k training examples that differ: the most typical row of each of k clusters.

    clusters = k-means of u(t) over train,  u = the leading singular directions of TF-IDF weights
    shown    = for each cluster, the row nearest to its center

Source: Zhang et al. 2022, arXiv 2210.03493 (Auto-CoT: one question of each k-means cluster); the
vectors are latent semantic analysis (Deerwester et al. 1990) over TF-IDF of character n-grams, as
the nearest-neighbor baseline reads texts.

What differs from Auto-CoT: no sentence encoder, worked answers are the data's, and the order is
drawn anew for every seed, so that a score over seeds is an average over orders.
Cost: no training; a k-means over train once a seed; k questions and answers in every prompt, shared
by all requests.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Final, final

import numpy as np
from annotated_types import Ge, Le
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from savile.prompts.base import Frame, Model, Prompt, pool_of
from savile.types import Example

DIRECTIONS: Final = 64
"""Singular directions that are kept (Deerwester et al. found 50 to 100 to serve)."""


@final
@dataclass(frozen=True, kw_only=True)
class Diverse(Prompt):
    """Show `k` training examples from different corners of the data, chosen once per seed."""

    needs: ClassVar[tuple[str, ...]] = ("pairs",)
    occupies: ClassVar[tuple[str, ...]] = ("examples",)
    stochastic: ClassVar[bool] = True

    k: Annotated[int, Ge(1), Le(1024)] = 8
    """How many demonstrations are shown."""

    def fit(
        self,
        frame: Frame,
        train: Sequence[Example],
        rng: random.Random,
        model: Model | None = None,
    ) -> Frame:
        """Return the frame with the typical rows of `k` clusters of `train`."""
        pool = pool_of(train)
        if len({row.input for row in pool}) > self.k:
            pool = typical(pool, self.k, rng.randrange(2**32))
        shown = list(pool[: self.k])
        rng.shuffle(shown)
        return replace(frame, demonstrations=tuple(shown))


def typical(pool: Sequence[Example], k: int, seed: int) -> tuple[Example, ...]:
    """Return the row nearest to the center of each of `k` clusters of inputs; fewer where rows do
    not differ."""
    weights = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    read = weights.fit_transform([row.input for row in pool])
    size = min(DIRECTIONS, *(n - 1 for n in read.shape))
    if size > 0:
        read = normalize(TruncatedSVD(size, random_state=seed).fit_transform(read))
    means = KMeans(k, n_init=1, random_state=seed).fit(read)
    nearest = means.transform(read).argmin(axis=0)
    return tuple(pool[row] for row in np.unique(nearest))
