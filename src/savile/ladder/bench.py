"""What every trial of a run shares: the loaded base, the rows to learn from and to choose on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from savile import registry
from savile.data import Dataset
from savile.ladder.function import RewardFunction, by_function
from savile.ladder.needs import Known
from savile.ladder.neighbors import Neighbors
from savile.ladder.rewards import by_metric
from savile.ladder.seeds import derive
from savile.ladder.task import frame_of, judges, metric_of
from savile.ladder.teaching import Teaching
from savile.lm.base import Base
from savile.lm.local import Local
from savile.lm.model import LM
from savile.metrics.base import Metric
from savile.objectives.base import Encoded, Reward
from savile.prompts.base import Frame
from savile.spec import Spec
from savile.types import Example, Preference


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The base and the rows that training and search may see; no test row is in it."""

    bases: Sequence[Base]
    """Every base of the run, those of teacher, proposer and judge last; techniques stand on the
    first, or `on` another."""
    frame: Frame
    """The task's words, before any prompt changes them."""
    train: Sequence[Example]
    dev: Sequence[Example]
    metric: Metric
    seed: int
    preferences: Sequence[Preference] = ()
    dev_preferences: Sequence[Preference] = ()
    test_preferences: Sequence[Preference] = ()
    """Held out like the test; only the comparison with the start reads them."""
    teaching: Teaching | None = None
    """A model to learn from."""
    reward_function: RewardFunction | None = None
    """The user's own, in the place of the metric."""
    proposer: Base | None = None
    """What writes instructions for prompt searches; None: the base itself."""
    neighbors: Neighbors = field(default_factory=Neighbors)
    """Vectors of questions and worked examples, kept for the run."""
    needs: Known = field(default_factory=dict)
    """What techniques need of the memory, counted once."""

    @property
    def base(self) -> Base:
        """What answers."""
        return self.bases[0]

    def on(self, index: int) -> Bench:
        """Return the bench of techniques on another base, by its place in the run."""
        return replace(self, bases=(self.bases[index],)) if index else self

    @property
    def lm(self) -> LM:
        """The model itself, for techniques that need `weights`."""
        assert isinstance(self.base, Local), "a technique that trains ran on a base without weights"
        return self.base.lm

    def tally(self) -> Mapping[str, Any]:
        """Return what answering took; what proposes is asked for a base that is here."""
        own = self.base.tally()
        if self.proposer is None or not isinstance(self.base, Local):
            return own
        return {**self.proposer.tally(), **own}

    def located(self, frame: Frame, rows: Sequence[Example]) -> Frame:
        """Return a frame that has looked up the worked examples of `rows`; nothing is attached."""
        return self.neighbors.located(self.base, frame, rows)

    def reward(self, frame: Frame) -> Callable[[Sequence[Encoded], Sequence[Example]], Reward]:
        """Return the maker of the reward of answers that are parsed by `frame`."""
        if self.reward_function is None:
            return by_metric(self.lm, frame, self.metric)
        return by_function(self.lm, frame, self.reward_function)

    def seed_of(self, index: int, purpose: str) -> int:
        """Return a seed that is the same for every technique, so that all see the same draws."""
        return derive(self.seed, index, purpose)


def bench_of(spec: Spec, dataset: Dataset, *bases: Base) -> Bench:
    """Return the bench of a run, or of its first base alone: train and dev, never test."""
    place = spec.proposing_base
    return Bench(
        bases=bases,
        frame=frame_of(spec, dataset),
        train=dataset.train,
        dev=judges(dataset.dev),
        metric=metric_of(spec),
        seed=spec.seed,
        preferences=dataset.preferences,
        dev_preferences=judges(dataset.dev_preferences),
        test_preferences=dataset.test_preferences,
        neighbors=Neighbors(folder=spec.folder),
        proposer=bases[place] if place is not None and place < len(bases) else None,
    )


def also_of(spec: Spec) -> dict[str, Metric]:
    """Instantiate the metrics that stand beside the score, by name."""
    return {
        name: registry.load("metrics", name)(**settings)
        for name, settings in spec.other_metrics.items()
    }
