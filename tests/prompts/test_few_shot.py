"""Few-shot: how many, which, in what order."""

import random
from collections import Counter

import pytest

from savile.prompts.base import Frame
from savile.prompts.few_shot import FewShot, round_robin
from savile.types import Example

LABELS = ("a", "b", "c")
TRAIN = [
    Example(id=f"{i:02}", input=f"x{i}", output="a" if i < 20 else "bc"[i % 2]) for i in range(24)
]


@pytest.mark.parametrize("k", [1, 3, 8, 24])
def test_k_rows_are_shown(k: int) -> None:
    frame = FewShot(k=k).fit(Frame(labels=LABELS), TRAIN, random.Random(0))
    assert len(frame.demonstrations) == k


def test_more_than_there_are_shows_all() -> None:
    frame = FewShot(k=100).fit(Frame(), TRAIN, random.Random(0))
    assert sorted(e.id for e in frame.demonstrations) == sorted(e.id for e in TRAIN)


@pytest.mark.parametrize("seed", range(5))
def test_every_label_is_shown_before_one_repeats(seed: int) -> None:
    frame = FewShot(k=6).fit(Frame(labels=LABELS), TRAIN, random.Random(seed))
    assert Counter(e.output for e in frame.demonstrations) == {"a": 2, "b": 2, "c": 2}
    one = FewShot(k=3).fit(Frame(labels=LABELS), TRAIN, random.Random(seed))
    assert {e.output for e in one.demonstrations} == set(LABELS)


def test_random_selection_follows_the_rows() -> None:
    counts: Counter[str] = Counter()
    for seed in range(60):
        prompt = FewShot(k=3, selection="random")
        frame = prompt.fit(Frame(labels=LABELS), TRAIN, random.Random(seed))
        counts.update(e.output for e in frame.demonstrations)
    assert counts["a"] > 0.7 * sum(counts.values())


def test_round_robin_loses_no_row() -> None:
    assert sorted(e.id for e in round_robin(TRAIN)) == [e.id for e in TRAIN]
