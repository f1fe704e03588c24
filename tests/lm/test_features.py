"""Frozen layers below the first one that trains are computed once; nothing else is different."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from savile import train as training
from savile.deltas.base import Delta
from savile.deltas.full import Full
from savile.deltas.last_layers import LastLayers
from savile.deltas.lora import LoRA
from savile.deltas.prompt_tuning import PromptTuning
from savile.lm import features, memory
from savile.lm.features import remembered
from savile.lm.llama import Llama
from savile.lm.model import LM
from savile.lm.tree import Paths, build
from savile.meter import forward_flops, work_since
from savile.types import Example
from tests import tiny
from tests.contracts.tree_gate import LIMIT, gradients, shake
from tests.test_train import job

PROMPTS = ([5, 6, 7, 8], [5, 6, 9], [5, 10, 11, 12, 13])
EXAMPLES = [Example(id=str(n), input=f"row {n % 5}", output="ab"[n % 2]) for n in range(10)]
ANSWERS = ([20, 21, 3], [20, 22, 3], [23, 3])


def rows(*numbers: int) -> list[Paths]:
    return [Paths(PROMPTS[n], [ANSWERS[n]]) for n in numbers]


def found(
    lm: LM, leaves: dict[str, Tensor], groups: Sequence[Paths]
) -> tuple[Tensor, dict[str, Tensor]]:
    loss = -lm.logprobs(build(groups)).sum()
    return loss.detach(), gradients(loss, leaves)


@pytest.mark.parametrize("limit", [features.LIMIT, 6 * 4 * tiny.WIDTH])
def test_recalled_states_give_the_same_loss_and_gradients(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "LIMIT", limit)
    lm = tiny.lm("llama")
    with LastLayers(n=1).attach(lm, 0) as attached:
        shake(attached)
        leaves = attached.parameters()
        trees = [rows(0, 1), rows(1, 2), rows(2, 0), rows(0, 1, 2)]
        wanted = [found(lm, leaves, groups) for groups in trees]
        with remembered(lm):
            got = [found(lm, leaves, groups) for groups in trees]
        assert lm.below is None
    for (loss, grads), (true_loss, true_grads) in zip(got, wanted, strict=True):
        torch.testing.assert_close(loss, true_loss, rtol=LIMIT, atol=0)
        for name, grad in grads.items():
            assert float((grad - true_grads[name]).norm() / true_grads[name].norm()) < LIMIT, name


def test_what_is_known_is_not_computed_again_and_not_counted() -> None:
    lm = tiny.lm("llama")
    first = next(iter(lm.sites.layers().values()))
    size = sum(p.numel() for p in first.parameters())
    with LastLayers(n=1).attach(lm, 0), remembered(lm), torch.no_grad():
        before = work_since(lm, type(lm.work)())
        lm.logprobs(build(rows(0, 1)))
        new = work_since(lm, before)
        before = work_since(lm, type(lm.work)())
        lm.logprobs(build(rows(1)))
        known = work_since(lm, before)
    assert (new.recalled, known.recalled) == (0, size * known.tokens)
    whole = 2.0 * (lm.trunk_parameters * known.tokens + lm.head_parameters * known.predictions)
    assert forward_flops(lm, known) == whole - 2.0 * size * known.tokens


def test_memory_that_runs_out_leaves_no_path_without_its_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm = tiny.lm("llama")
    with LastLayers(n=1).attach(lm, 0), torch.no_grad():
        wanted = lm.logprobs(build(rows(0, 1)))
        with remembered(lm):
            lm.logprobs(build([Paths(range(30, 60), [[1, 2]])]))  # room for more than is kept
            with monkeypatch.context() as patched:
                patched.setattr(Llama, "before", out_of_memory)
                assert memory.tried(lambda: lm.logprobs(build(rows(0, 1, 2)))) is None
            torch.testing.assert_close(lm.logprobs(build(rows(0, 1))), wanted)


def out_of_memory(*_: object) -> None:
    raise torch.OutOfMemoryError


@pytest.mark.parametrize("delta", [LoRA(r=2), Full(), PromptTuning(num_virtual_tokens=2)])
def test_nothing_is_kept_where_something_trains_below(delta: Delta) -> None:
    lm = tiny.lm("llama")
    with delta.attach(lm, 0), remembered(lm):
        assert lm.below is None


def test_a_family_without_a_pass_of_its_own_computes_as_before() -> None:
    lm = tiny.lm("gpt2")
    with LastLayers(n=1).attach(lm, 0) as attached:
        wanted, _ = found(lm, attached.parameters(), rows(0, 1))
        with remembered(lm):
            got = [found(lm, attached.parameters(), rows(0, 1))[0] for _ in range(2)]
    assert got == [wanted, wanted]


def test_a_training_ends_where_it_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    for context in (remembered, lambda lm: contextlib.nullcontext()):
        monkeypatch.setattr(training, "remembered", context)
        lm = tiny.lm("llama")
        with LastLayers(n=1).attach(lm, 0) as attached:
            done = training.train(job(lm, EXAMPLES), attached)
            ends.append((done, attached.state()))
    (with_it, state), (without, wanted) = ends
    assert with_it.flops < without.flops
    assert [h["loss"] for h in with_it.history] == pytest.approx(
        [h["loss"] for h in without.history], rel=1e-5
    )
    for name, tensor in state.items():
        torch.testing.assert_close(tensor, wanted[name], rtol=1e-4, atol=1e-6)
