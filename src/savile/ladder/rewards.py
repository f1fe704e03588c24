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
            texts = [lm.template.decode(one.answer) for one in written]
            return scores_of(frame, metric, texts, [examples[one.row] for one in written])

        return reward

    return make


def scores_of(
    frame: Frame, metric: Metric, texts: Sequence[str], examples: Sequence[Example]
) -> list[float]:
    """Return what each written text is worth as the answer to its example, alone."""
    answers = [frame.parse(text) for text in texts]
    references = [example.accepted for example in examples]
    statistics = metric.statistics(answers, references, frame.labels)
    return [float(score) for score in metric.aggregate(statistics)]
