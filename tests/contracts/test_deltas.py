"""What every delta promises, run over every file of `deltas/` by discovery."""

from collections.abc import Callable, Sequence

import pytest
import safetensors.torch
import torch
from torch import Tensor

from savile import registry
from savile.deltas.base import Delta
from savile.errors import IntegrityError
from savile.job import Job, Plan, encode
from savile.lm.generate import greedy
from savile.lm.model import LM
from savile.lm.tree import build
from savile.metrics.exact_match import ExactMatch
from savile.objectives.sft import SFT
from savile.prompts.base import Frame
from savile.train import train
from savile.types import Example
from tests import tiny
from tests.contracts.tree_gate import gradients, shake
from tests.gates import Gate
from tests.losses import mean_loss

NAMES = sorted(registry.parts("deltas"))
RAGGED = ([1, 20, 21], [1, 20, 21, *range(30, 50)], [1, 60, 61, 62, 63], [1, 20], [70])
"""Prompts of unequal length, one the beginning of another, one apart."""


@pytest.fixture(params=NAMES)
def delta(request: pytest.FixtureRequest) -> Delta:
    made: Delta = registry.load("deltas", request.param)()
    return made


@pytest.fixture(params=["llama", "gpt2", "bloom"])
def lm(request: pytest.FixtureRequest) -> LM:
    return tiny.lm(request.param)


@torch.no_grad()
def scores(lm: LM) -> Tensor:
    return lm.logprobs(build(tiny.groups()))


@torch.no_grad()
def outputs(lm: LM) -> Tensor:
    tree = build(tiny.groups())
    return lm.logits(tree, tree.targets.source)


def weights(lm: LM) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_detach_leaves_the_base_bit_identical(delta: Delta, lm: LM) -> None:
    before, held = outputs(lm), weights(lm)
    with delta.attach(lm, 0) as attached:
        shake(attached)
        assert not torch.equal(outputs(lm), before)
    assert torch.equal(outputs(lm), before)
    assert same(weights(lm), held)
    assert not any(p.requires_grad or p.grad is not None for p in lm.model.parameters())


def test_detach_happens_also_after_an_error(delta: Delta, lm: LM) -> None:
    before = outputs(lm)

    def fail() -> None:
        with delta.attach(lm, 0) as attached:
            shake(attached)
            raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        fail()
    assert torch.equal(outputs(lm), before)


def test_it_starts_as_the_base_where_it_says_so(delta: Delta, lm: LM) -> None:
    before = outputs(lm)
    with delta.attach(lm, 0):
        assert torch.equal(outputs(lm), before) is type(delta).starts_as_base


def test_exactly_the_declared_parameters_train(delta: Delta, lm: LM) -> None:
    with delta.attach(lm, 0) as attached:
        declared = attached.parameters()
        assert declared
        assert all(p.requires_grad and p.is_leaf for p in declared.values())
        shake(attached)
        found = gradients(-lm.logprobs(build(tiny.groups())).mean(), declared)
        assert [name for name, g in found.items() if not bool(g.any())] == []
        own = {id(p) for p in declared.values()}
        trainable = {id(p) for p in lm.model.parameters() if p.requires_grad}
        assert trainable <= own


def test_a_saved_delta_gives_the_same_logits(delta: Delta, lm: LM, gate: Gate) -> None:
    with delta.attach(lm, 0) as attached:
        shake(attached)
        wanted, blob = outputs(lm), safetensors.torch.save(attached.state())
    with delta.attach(lm, 1) as attached:
        attached.load(safetensors.torch.load(blob))
        found = outputs(lm)
    assert torch.equal(found, wanted)
    gate(delta, "resume", float((found - wanted).abs().max()), "logits")


def test_a_state_is_a_copy(delta: Delta, lm: LM) -> None:
    with delta.attach(lm, 0) as attached:
        kept = attached.state()
        before = {name: tensor.clone() for name, tensor in kept.items()}
        shake(attached)
        assert same(kept, before)


def test_disabled_is_the_base(delta: Delta, lm: LM) -> None:
    base = outputs(lm)
    with delta.attach(lm, 0) as attached:
        shake(attached)
        own = outputs(lm)
        with attached.disabled():
            assert torch.equal(outputs(lm), base)
        assert torch.equal(outputs(lm), own)


def test_merging_gives_the_same_numbers_and_detach_the_old_bits(delta: Delta, lm: LM) -> None:
    base, held = outputs(lm), weights(lm)
    with delta.attach(lm, 0) as attached:
        shake(attached)
        own = scores(lm)
        if attached.merge():
            torch.testing.assert_close(scores(lm), own, rtol=1e-5, atol=1e-5)
            attached.merge()  # a second call changes nothing
            torch.testing.assert_close(scores(lm), own, rtol=1e-5, atol=1e-5)
    assert torch.equal(outputs(lm), base)
    assert same(weights(lm), held)


def test_the_same_seed_gives_the_same_start(delta: Delta, lm: LM) -> None:
    states = []
    for seed in (5, 5):
        torch.rand(3)  # the global generator must not matter
        with delta.attach(lm, seed) as attached:
            states.append(attached.state())
    assert same(*states)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_answers_of_a_batch_are_those_of_single_runs(
    delta: Delta, family: str, gate: Gate
) -> None:
    lm = tiny.lm(family)
    with delta.attach(lm, 0) as attached:
        shake(attached, 0.1)
        together = greedy(lm, RAGGED, 8)
        alone = [greedy(lm, [prompt], 8)[0] for prompt in RAGGED]
    assert together == alone
    assert any(together)
    gate(delta, "batch", sum(a != b for a, b in zip(together, alone, strict=True)), "answers")


def job(lm: LM, rows: Sequence[Example], rate: float, examples: int) -> Job:
    plan = Plan(learning_rate=rate, examples=examples, batch_size=8, evaluations=2)
    return Job(
        lm=lm,
        objective=SFT(),
        frame=Frame(),
        train=rows,
        dev=rows,
        metric=ExactMatch(),
        plan=plan,
        seed=0,
        max_new_tokens=4,
    )


def test_training_twice_gives_the_same_bits(
    delta: Delta, trained_lm: LM, eight: list[Example]
) -> None:
    states = []
    for _ in range(2):
        with delta.attach(trained_lm, 3) as attached:
            train(job(trained_lm, eight, delta.start_rate(trained_lm), 24), attached)
            states.append(attached.state())
    assert same(*states)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt_neox"])
def test_it_learns_eight_rows(
    delta: Delta, family: str, trained: Callable[[str], LM], eight: list[Example], gate: Gate
) -> None:
    lm = trained(family)
    rows = encode(lm, Frame(), eight)
    before = mean_loss(lm, rows)
    with delta.attach(lm, 0) as attached:
        made = train(job(lm, eight, delta.start_rate(lm), 8 * 80), attached)
        after = mean_loss(lm, rows)
    assert made.status == "ok"
    assert after < 0.15 * before
    assert made.dev_score == 1.0
    gate(delta, "families", after / before, family)


def test_a_foreign_state_is_refused(delta: Delta, lm: LM) -> None:
    with delta.attach(lm, 0) as attached:
        state, before = attached.state(), attached.state()
        first = sorted(state)[0]
        with pytest.raises(IntegrityError, match="does not fit"):
            attached.load({**state, first: torch.zeros(3, 5, 7)})
        with pytest.raises(IntegrityError, match="does not fit"):
            attached.load({k: v for k, v in state.items() if k != first} | {"other": state[first]})
        assert same(attached.state(), before)
