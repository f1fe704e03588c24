"""What every metric promises, run over every file of `metrics/` by discovery."""

import random
from typing import Any

import numpy as np
import pytest

from savile import registry
from savile.metrics.base import Metric

SETTINGS: dict[str, dict[str, Any]] = {"regex": {"pattern": r"(\w+)\W*$"}}
"""Settings of metrics that have one without a default."""
LABELS = ("red", "green", "blue")
TRUTH = ("red", "green", "blue", '{"a": 1, "b": "x"}', "12", "the green house on a hill")
NAMES = sorted(registry.parts("metrics"))


@pytest.fixture(params=NAMES)
def metric(request: pytest.FixtureRequest) -> Metric:
    made: Metric = registry.load("metrics", request.param)(**SETTINGS.get(request.param, {}))
    return made


def truths(metric: Metric, n: int) -> list[str]:
    name = type(metric).__name__
    if "labels" in type(metric).needs:
        return [LABELS[i % 3] for i in range(n)]
    return {
        "JsonFields": [f'{{"a": {i}, "b": "x"}}' for i in range(n)],
        "Numeric": [str(i * 7) for i in range(n)],
    }.get(name, [f"the green house number {i} on a hill" for i in range(n)])


def answers(metric: Metric, n: int, seed: int) -> tuple[list[str | None], list[tuple[str, ...]]]:
    rng, wanted = random.Random(seed), truths(metric, n)
    given: list[str | None] = [
        rng.choice([wanted[i], rng.choice(wanted), rng.choice(TRUTH), None]) for i in range(n)
    ]
    return given, [(w,) for w in wanted]


@pytest.mark.parametrize("seed", range(5))
def test_scores_stay_in_range(metric: Metric, seed: int) -> None:
    given, wanted = answers(metric, 17, seed)
    assert 0.0 <= metric.score(given, wanted, LABELS) <= type(metric).top


def test_the_right_answers_score_the_top(metric: Metric) -> None:
    wanted = truths(metric, 9)
    score = metric.score(wanted, [(w,) for w in wanted], LABELS)
    assert score == pytest.approx(type(metric).top)


def test_no_answer_is_wrong(metric: Metric) -> None:
    wanted = [(w,) for w in truths(metric, 9)]
    assert metric.score([None] * 9, wanted, LABELS) == 0.0
    right: list[str | None] = [w for (w,) in wanted]
    assert metric.score([None, *right[1:]], wanted, LABELS) < type(metric).top


@pytest.mark.parametrize("seed", range(3))
def test_order_does_not_matter(metric: Metric, seed: int) -> None:
    given, wanted = answers(metric, 15, seed)
    order = random.Random(seed).sample(range(15), 15)
    shuffled = metric.score([given[i] for i in order], [wanted[i] for i in order], LABELS)
    assert shuffled == pytest.approx(metric.score(given, wanted, LABELS), abs=1e-12)


def test_statistics_add_up(metric: Metric) -> None:
    given, wanted = answers(metric, 12, 1)
    whole = metric.statistics(given, wanted, LABELS)
    assert whole.dtype == np.float64
    assert whole.shape[0] == 12
    parts = [metric.statistics([g], [w], LABELS) for g, w in zip(given, wanted, strict=True)]
    np.testing.assert_allclose(np.concatenate(parts), whole)
    both = np.stack([whole.sum(0), whole[:5].sum(0)])
    first = metric.score(given[:5], wanted[:5], LABELS)
    np.testing.assert_allclose(metric.aggregate(both)[1], first)
    if type(metric).binary:
        assert whole.shape[1] == 2
        assert set(whole[:, 0]) <= {0.0, 1.0}
        assert set(whole[:, 1]) == {1.0}
