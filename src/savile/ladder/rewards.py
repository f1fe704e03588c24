"""What a written answer is worth by the task's own metric: the reward of PPO and GRPO by default.

    r(x, y) = metric of the row alone, on the answer parsed out of y

An answer that was cut before it ended, or from which nothing can be parsed, is scored as it is: the
metric says 0 where it finds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from savile.lm.model import LM
from savile.metrics.base import Metric
from savile.objectives.base import Encoded, Reward, Written
from savile.prompts.base import Frame
from savile.types import Example


def by_metric(
    lm: LM, frame: Frame, metric: Metric
) -> Callable[[Sequence[Encoded], Sequence[Example]], Reward]:
    """Return the maker of a reward from a metric."""

    def make(rows: Sequence[Encoded], examples: Sequence[Example]) -> Reward:
        def reward(written: Sequence[Written]) -> list[float]:
            answers = [frame.parse(lm.template.decode(one.answer)) for one in written]
            references = [examples[one.row].accepted for one in written]
            statistics = metric.statistics(answers, references, frame.labels)
            return [float(score) for score in metric.aggregate(statistics)]

        return reward

    return make
