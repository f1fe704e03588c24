"""Copies of one training, merged: what each sees, what they leave, and what the whole costs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import final

import pytest
import torch
from torch import Tensor

from savile.chain import train_chain
from savile.copies import MERGED, train_copies
from savile.deltas.base import Delta
from savile.deltas.bottleneck import Bottleneck
from savile.deltas.full import Full
from savile.deltas.lora import LoRA
from savile.deltas.prompt_tuning import PromptTuning
from savile.job import encode
from savile.joined import Joined
from savile.lm.merging import State, dare, linear, merge, ties
from savile.lm.model import LM
from savile.objectives.base import Batch, Objective
from savile.objectives.dare import DARE
from savile.objectives.dpo import DPO
from savile.objectives.sft import SFT
from savile.objectives.soup import Soup
from savile.objectives.ties import TIES
from savile.train import Progress, Trained, train
from savile.types import Example
from tests.losses import mean_loss
from tests.test_chain import job

SHARE = 120
"""Presentations: 15 steps of 8, five for each of three copies."""
DELTAS: Sequence[Delta] = (
    LoRA(r=2),
    Bottleneck(reduction_factor=8),
    PromptTuning(num_virtual_tokens=3),
    Full(),
    Joined(members=(PromptTuning(num_virtual_tokens=3), LoRA(r=2))),
)


def trained(
    lm: LM, rows: Sequence[Example], objective: Objective, delta: Delta, share: int = SHARE
) -> tuple[Trained, dict[str, Tensor]]:
    """Train copies and return what they came to, and the state they left."""
    with delta.attach(lm, 0) as attached:
        made = train_copies(replace(job(lm, rows, share), objective=objective), attached)
        return made, attached.state()


def apart(lm: LM, rows: Sequence[Example], delta: Delta) -> tuple[State, list[State], list[float]]:
    """Train three thirds of the share by themselves; return the start, the states and scores."""
    states: list[State] = []
    scores: list[float] = []
    for number in range(3):
        with delta.attach(lm, 0) as attached:
            start = attached.state()
            made = train(replace(job(lm, rows, SHARE // 3), seed=number), attached)
            states.append(attached.state())
        assert made.dev_score is not None
        scores.append(made.dev_score)
    return start, states, scores


def equal(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("objective", [Soup(copies=1), TIES(copies=1), DARE(copies=1)])
def test_one_copy_is_sft_to_the_bit(
    trained_lm: LM, eight: list[Example], objective: Objective
) -> None:
    made, state = trained(trained_lm, eight, objective, LoRA(r=2))
    wanted, sft = trained(trained_lm, eight, SFT(), LoRA(r=2))
    assert equal(state, sft)
    assert made.history == wanted.history
    assert (made.dev_score, made.examples) == (wanted.dev_score, wanted.examples)


@pytest.mark.parametrize("delta", DELTAS, ids=lambda delta: type(delta).__name__)
def test_a_soup_is_the_mean_of_what_the_copies_are_apart(
    trained_lm: LM, eight: list[Example], delta: Delta
) -> None:
    start, states, scores = apart(trained_lm, eight, delta)
    made, state = trained(trained_lm, eight, Soup(), delta)
    for name, tensor in state.items():
        mean = torch.stack([s[name] for s in states]).mean(0)
        torch.testing.assert_close(tensor, mean, rtol=1e-5, atol=1e-6)
    assert not equal(states[0], states[1])  # their rows came in another order
    assert not equal(states[0], start)
    event = made.history[-1]
    assert event["best_copy"] == max(scores)
    assert (event["copies"], event["of"], event["diverged"]) == (3, 3, 0)


@pytest.mark.parametrize("density", [0.3, 1.0])
def test_ties_and_dare_merge_how_far_the_copies_went(
    trained_lm: LM, eight: list[Example], density: float
) -> None:
    start, states, _ = apart(trained_lm, eight, LoRA(r=2))
    moved = [{name: state[name] - start[name] for name in start} for state in states]
    rng = torch.Generator().manual_seed(0)
    for objective, wanted in (
        (TIES(density=density), merge(moved, [1.0] * 3, lambda t, w: ties(t, w, density))),
        (
            DARE(density=density),
            merge(moved, [1 / 3] * 3, lambda t, w: dare(t, w, density, rng, linear)),
        ),
    ):
        _, state = trained(trained_lm, eight, objective, LoRA(r=2))
        for name in start:
            torch.testing.assert_close(state[name], start[name] + wanted[name])


def test_the_copies_divide_one_budget(trained_lm: LM, eight: list[Example]) -> None:
    heard: list[Progress] = []
    with LoRA(r=2).attach(trained_lm, 0) as attached:
        given = replace(job(trained_lm, eight, SHARE), objective=Soup())
        made = train_copies(given, attached, on_progress=heard.append)
    sft, _ = trained(trained_lm, eight, SFT(), LoRA(r=2))
    assert (made.examples, made.steps, made.tokens) == (SHARE, 15, sft.tokens)
    assert [p.examples for p in heard] == list(range(8, SHARE + 1, 8))
    assert {p.of for p in heard} == {SHARE}
    assert made.flops > sft.flops  # of looks at dev: two a copy, and the merged one's
    looks = [(e["copy"], e["step"]) for e in made.history if "event" not in e]
    assert looks == [(c, s) for c in range(3) for s in (2, 5)]


def test_a_copy_has_a_step_at_least(trained_lm: LM, eight: list[Example]) -> None:
    made, _ = trained(trained_lm, eight, Soup(copies=5), LoRA(r=2), share=16)
    assert (made.examples, made.steps) == (16, 2)
    assert (made.history[-1]["copies"], made.history[-1]["of"]) == (2, 5)


@pytest.mark.parametrize("objective", [Soup(), TIES(), DARE()])
def test_what_is_reported_is_the_merged_state(
    trained_lm: LM, eight: list[Example], objective: Objective
) -> None:
    with LoRA(r=2).attach(trained_lm, 0) as attached:
        given = replace(job(trained_lm, eight, SHARE), objective=objective)
        made = train_copies(given, attached)
        loss = mean_loss(trained_lm, encode(trained_lm, given.frame, eight))
    assert made.status == "ok"
    assert made.dev_loss == pytest.approx(loss)
    event = made.history[-1]
    assert (event["event"], event["dev_score"]) == (MERGED, made.dev_score)
    assert event["dev_loss"] == made.dev_loss
    assert [e["step"] for e in made.history] == [2, 5, 2, 5, 2, 5, 15]


@pytest.mark.parametrize("objective", [Soup(), TIES(), DARE()])
def test_the_same_seed_gives_the_same_bits(
    trained_lm: LM, eight: list[Example], objective: Objective
) -> None:
    first, second = (trained(trained_lm, eight, objective, LoRA(r=2)) for _ in range(2))
    assert equal(first[1], second[1])
    assert first[0].history == second[0].history


@final
@dataclass(frozen=True, kw_only=True)
class Broken(Soup):  # type: ignore[misc]
    """A soup whose loss is no number in some steps, counted from 1 over all copies."""

    bad: range
    calls: list[Batch] = field(default_factory=list)

    def loss(self, lm: LM, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        loss, told = super().loss(lm, batch)
        if torch.is_grad_enabled():
            self.calls.append(batch)
        return loss * (math.nan if len(self.calls) in self.bad else 1.0), told


def test_a_copy_that_diverged_is_left_out(trained_lm: LM, eight: list[Example]) -> None:
    _, states, _ = apart(trained_lm, eight, LoRA(r=2))
    made, state = trained(
        trained_lm, eight, Broken(bad=range(6, 10)), LoRA(r=2)
    )  # copy 1, four times
    assert made.status == "ok"
    assert (made.history[-1]["copies"], made.history[-1]["diverged"]) == (2, 1)
    for name, tensor in state.items():
        torch.testing.assert_close(tensor, (states[0][name] + states[2][name]) / 2)


def test_one_copy_that_is_left_is_the_result(trained_lm: LM, eight: list[Example]) -> None:
    _, states, scores = apart(trained_lm, eight, LoRA(r=2))
    made, state = trained(trained_lm, eight, Broken(bad=range(1, 9)), LoRA(r=2))
    assert equal(state, states[2])
    assert (made.status, made.dev_score) == ("ok", scores[2])
    assert made.history[-1]["diverged"] == 2


def test_when_all_diverge_it_diverged(trained_lm: LM, eight: list[Example]) -> None:
    made, _ = trained(trained_lm, eight, Broken(bad=range(1, 99)), LoRA(r=2))
    assert made.status == "diverged"
    assert made.reason is not None
    assert made.reason.startswith("all 3 copies diverged; the first diverged at step 0")


def test_a_chain_goes_on_from_the_merged_state(trained_lm: LM, eight: list[Example]) -> None:
    _, soup = trained(trained_lm, eight, Soup(), LoRA(r=2))
    with LoRA(r=2).attach(trained_lm, 0) as attached:
        made = train_chain(job(trained_lm, eight, 2 * SHARE), [Soup(), DPO()], attached)
        left = attached.state()
    assert made.start is not None
    assert equal(made.start, soup)
    assert not equal(left, soup)
    assert made.trained.examples == 2 * SHARE
    assert [e["objective"] for e in made.trained.history] == ["soup"] * 7 + ["dpo"] * 2
