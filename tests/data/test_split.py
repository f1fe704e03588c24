"""Splits: disjoint, independent of order, and old rows stay where they are."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from savile.data.split import MOST_DEV, Bands, assign, carve_bands, position

KEYS = st.lists(st.text(max_size=6), min_size=1, max_size=60)
BANDS = Bands(test=0.2, dev=0.1, dev_from=0.2)


@settings(max_examples=100, deadline=None)
@given(keys=KEYS, seed=st.integers(0, 99))
def test_equal_keys_stay_together_in_any_order(keys: list[str], seed: int) -> None:
    first = dict(zip(keys, assign(keys, BANDS), strict=True))
    shuffled = list(keys)
    random.Random(seed).shuffle(shuffled)
    assert dict(zip(shuffled, assign(shuffled, BANDS), strict=True)) == first


def test_adding_rows_moves_no_old_row() -> None:
    old = [f"row {i}" for i in range(500)]
    more = [*old, *(f"new {i}" for i in range(5000))]
    assert assign(more, BANDS)[:500] == assign(old, BANDS)


def test_shares_are_about_those_wanted() -> None:
    splits = assign([f"row {i}" for i in range(20_000)], BANDS)
    for split, share in (("train", 0.7), ("dev", 0.1), ("test", 0.2)):
        assert splits.count(split) / 20_000 == pytest.approx(share, abs=0.01)  # 3 sd = 0.0085


@pytest.mark.parametrize("n", [3, 4, 5, 10])
def test_few_rows_still_fill_every_split(n: int) -> None:
    for start in range(40):
        keys = [f"{start} {i}" for i in range(n)]
        assert set(assign(keys, BANDS)) == {"train", "dev", "test"}


@pytest.mark.parametrize("n", [10, 6_000, 7_000, 100_000, 10_000_000])
def test_dev_is_bounded_and_its_bands_are_nested(n: int) -> None:
    small, large = carve_bands(n, dev=True, test=True), carve_bands(2 * n, dev=True, test=True)
    assert small.dev * n <= MOST_DEV
    assert large.dev <= small.dev
    assert large.dev_from == small.dev_from


def test_positions_are_in_the_unit_interval() -> None:
    assert all(0.0 <= position(str(i)) < 1.0 for i in range(1000))
