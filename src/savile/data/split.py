"""Which split a row belongs to, from a hash of its content alone.

u(row) = sha256(folded input, or group) / 2^256 in [0, 1): test below `test`, dev in the next band,
train in the rest. So splits do not depend on order or seed, equal inputs stay together, and adding
rows moves no old row.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

Split = Literal["train", "dev", "test"]
DEV_SHARE = 0.15
TEST_SHARE = 0.2
MOST_DEV = 1000
"""Most rows taken from train for dev: more would cost time at every evaluation."""


class Bands(NamedTuple):
    """The widths of the test and the dev band; train has the rest."""

    test: float
    dev: float
    dev_from: float = 0.0
    """Where the dev band starts."""


def position(key: str) -> float:
    """Return the place of a key in [0, 1)."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8")).digest()[:7], "big") / (1 << 56)


def carve_bands(n_train: int, *, dev: bool, test: bool) -> Bands:
    """Return the bands that are cut out of a train file.

    The dev band is halved until it holds at most about `MOST_DEV` rows; bands are nested, so
    growing data move rows only from dev to train, and only at a doubling.
    """
    width = DEV_SHARE if dev else 0.0
    while width * n_train > MOST_DEV:
        width /= 2
    return Bands(test=TEST_SHARE if test else 0.0, dev=width, dev_from=TEST_SHARE)


def assign(keys: Sequence[str], bands: Bands) -> list[Split]:
    """Return the split of every key.

    A wanted split that would stay empty gets the key closest to its band, when there are enough
    different keys.
    """
    at = {key: position(key) for key in keys}
    chosen: dict[str, Split] = {key: _band(place, bands) for key, place in at.items()}
    wanted: list[tuple[Split, float]] = []
    if bands.test:
        wanted.append(("test", 0.0))
    if bands.dev:
        wanted.append(("dev", bands.dev_from))
    if bands.test + bands.dev < 1.0:
        wanted.append(("train", 1.0))
    for split, start in wanted:
        sizes = Counter(chosen.values())
        spare = [key for key in chosen if sizes[chosen[key]] > 1]
        if split not in sizes and spare:
            distance = {key: abs(at[key] - start) for key in spare}
            chosen[min(spare, key=lambda key: (distance[key], key))] = split
    return [chosen[key] for key in keys]


def _band(place: float, bands: Bands) -> Split:
    if place < bands.test:
        return "test"
    if bands.dev_from <= place < bands.dev_from + bands.dev:
        return "dev"
    return "train"
