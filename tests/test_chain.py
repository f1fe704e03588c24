"""A chain of objectives on one delta: what each starts from, what it leaves, what it costs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from savile.chain import train_chain
from savile.deltas.lora import LoRA
from savile.job import Job, Plan
from savile.lm.model import LM
from savile.metrics.exact_match import ExactMatch
from savile.objectives.base import Batch, Encoded, Objective, Reward, TrainingData
from savile.objectives.dpo import DPO
from savile.objectives.reward import RewardModel
from savile.objectives.sft import SFT
from savile.prompts.base import Frame
from savile.train import Progress
from savile.types import Example, Preference

RATE = 5e-3


def preferences(rows: Sequence[Example]) -> list[Preference]:
    return [
        Preference(id=row.id, input=row.input, chosen=row.output, rejected=other.output)
        for row, other in zip(rows, [*rows[1:], rows[0]], strict=True)
        if row.output != other.output
    ]


def longer_is_better(rows: Sequence[Encoded], examples: Sequence[Example]) -> Reward:
    return lambda written: [float(len(one.answer)) for one in written]


def job(lm: LM, rows: Sequence[Example], examples: int = 96) -> Job:
    return Job(
        lm=lm,
        objective=SFT(),
        frame=Frame(),
        train=rows,
        dev=rows,
        metric=ExactMatch(),
        plan=Plan(learning_rate=RATE, examples=examples, batch_size=8, evaluations=2),
        seed=0,
        max_new_tokens=4,
        preferences=preferences(rows),
        dev_preferences=preferences(rows),
        reward=longer_is_better,
    )


@final
@dataclass(frozen=True, kw_only=True)
class Look(Objective):
    """Trains nothing; keeps what the model computes when it begins."""

    gives: ClassVar[tuple[str, ...]] = ("policy",)
    rate_factor: ClassVar[float] = 1e-9
    seen: list[Tensor]

    def items(self, lm: LM, data: TrainingData) -> Sequence[Encoded]:
        self.seen.append(scores(lm, data.rows))
        return data.rows

    def trees(self, items: Sequence[Encoded], tokens_per_tree: int) -> list[Batch]:
        return SFT().trees(items, tokens_per_tree)

    def loss(self, lm: LM, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        return SFT().loss(lm, batch)


@torch.no_grad()
def scores(lm: LM, rows: Sequence[Encoded]) -> Tensor:
    (batch,) = SFT().trees(rows, 1 << 20)
    return lm.sequence_logprobs(batch.tree)


def test_after_a_reward_model_the_policy_goes_on_from_where_it_was(
    trained_lm: LM, eight: list[Example]
) -> None:
    seen: list[Tensor] = []
    with LoRA(r=2).attach(trained_lm, 0) as attached:
        made = train_chain(
            job(trained_lm, eight),
            [SFT(), Look(seen=seen), RewardModel(), Look(seen=seen)],
            attached,
        )
    # Look keeps the best state by dev, which may be its own start; the reward model's is gone
    torch.testing.assert_close(seen[0], seen[2], rtol=1e-3, atol=1e-3)
    assert {name.split(".")[0] for name in made.judge} == {"delta", "heads"}
    assert made.start is None
    assert trained_lm.heads == {}


def test_each_objective_gets_an_equal_part_and_the_work_adds_up(
    trained_lm: LM, eight: list[Example]
) -> None:
    heard: list[Progress] = []
    with LoRA(r=2).attach(trained_lm, 0) as attached:
        made = train_chain(
            job(trained_lm, eight, 96), [SFT(), RewardModel(), DPO()], attached,
            on_progress=heard.append,
        )  # fmt: skip
    trained = made.trained
    assert (trained.status, trained.examples, trained.steps) == ("ok", 96, 12)
    assert [p.examples for p in heard] == list(range(8, 97, 8))
    assert {p.of for p in heard} == {96}
    names = [entry["objective"] for entry in trained.history]
    assert list(dict.fromkeys(names)) == ["sft", "rewardmodel", "dpo"]
    assert trained.flops > 0
    assert all(math.isfinite(e["dev_loss"]) for e in trained.history)


def test_dpo_starts_at_the_policy_it_was_given(trained_lm: LM, eight: list[Example]) -> None:
    """Its loss is log 2 before the first step: the policy is the reference, whatever came first."""
    with LoRA(r=2).attach(trained_lm, 0) as attached:
        made = train_chain(job(trained_lm, eight), [SFT(), DPO()], attached)
    first = next(e for e in made.trained.history if e["objective"] == "dpo")
    assert made.start is not None
    assert first["dev_loss"] < math.log(2)
    assert first["margin"] > 0
    assert {"pair_accuracy", "chosen_logp"} <= set(first)


def test_a_chain_that_breaks_says_where(trained_lm: LM, eight: list[Example]) -> None:
    class Broken(SFT):  # type: ignore[misc]
        def loss(self, lm: LM, batch: Batch) -> tuple[Tensor, dict[str, float]]:
            loss, told = super().loss(lm, batch)
            return loss * math.nan, told

    with LoRA(r=2).attach(trained_lm, 0) as attached:
        made = train_chain(job(trained_lm, eight), [SFT(), Broken(), DPO()], attached)
    assert made.trained.status == "diverged"
    assert {e["objective"] for e in made.trained.history} == {"sft", "broken"}
