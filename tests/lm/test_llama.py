"""The Llama family's own forward pass: which models it serves, and that it is the general one."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import (
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from savile.deltas.lora import LoRA
from savile.lm.generate import greedy
from savile.lm.model import LM
from savile.lm.tree import Paths, build
from tests import tiny
from tests.contracts.tree_gate import LIMIT, gradients, shake

SMALL = {**tiny.LLAMA_LIKE, "vocab_size": tiny.VOCABULARY}


def wrapped(model: PreTrainedModel) -> LM:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return LM(model.eval(), tiny.tokenizer(), name="tiny")


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral"])
def test_it_serves_the_family(family: str) -> None:
    assert tiny.lm(family)._own is not None


@pytest.mark.parametrize("family", ["gemma2", "gpt_neox", "gpt2", "bloom"])
def test_it_serves_no_other(family: str) -> None:
    assert tiny.lm(family)._own is None


def test_a_model_of_the_same_parts_that_computes_something_else_is_found_by_the_probe() -> None:
    torch.manual_seed(0)
    lm = wrapped(GraniteForCausalLM(GraniteConfig(**SMALL, residual_multiplier=0.5)))
    assert lm.uses_tree
    assert lm._own is None


@pytest.mark.parametrize("delta", [None, LoRA(r=4)])
@pytest.mark.parametrize(
    "build_model",
    [
        lambda: LlamaForCausalLM(LlamaConfig(**SMALL, attention_bias=True, mlp_bias=True)),
        lambda: LlamaForCausalLM(LlamaConfig(**{**SMALL, "num_key_value_heads": 1}, head_dim=16)),
        lambda: MistralForCausalLM(MistralConfig(**SMALL, sliding_window=None)),
    ],
)
def test_it_computes_what_the_general_path_does(
    build_model: Callable[[], PreTrainedModel], delta: LoRA | None
) -> None:
    torch.manual_seed(0)
    lm = wrapped(build_model())
    assert lm._own is not None
    attached = delta.attach(lm, 0) if delta else None
    if attached is None:
        leaves = dict(lm.model.named_parameters())
        lm.model.requires_grad_()
    else:
        shake(attached)
        leaves = attached.parameters()
    found = []
    for own in (lm._own, None):
        lm._own = own
        loss = -lm.logprobs(build(tiny.groups())).sum()
        found.append((loss.detach(), gradients(loss, leaves)))
    (loss, ours), (wanted, theirs) = found
    torch.testing.assert_close(loss, wanted, rtol=LIMIT, atol=0)
    for name, gradient in theirs.items():
        assert float((ours[name] - gradient).norm() / gradient.norm()) <= LIMIT, name


def test_a_tree_longer_than_the_window_takes_the_general_path() -> None:
    lm = tiny.lm("mistral")
    assert lm._own is not None
    short, long = (build([Paths([1, *range(20, n)], [[50, 4]])]) for n in (22, 60))
    assert lm._serving(lm.plan(short).deepest) is not None
    assert lm._serving(lm.plan(long).deepest) is None


@torch.no_grad()
@pytest.mark.parametrize("order", [[2, 5, 9], [9, 2, 5], [5, 2, 5]])
def test_states_come_in_the_order_of_their_nodes(order: list[int]) -> None:
    lm, tree = tiny.lm("llama"), build(tiny.groups())
    logits, hidden = lm.logits_and_hidden(tree, np.array(order))
    lm._own = None
    for ours, wanted in zip(
        (logits, hidden), lm.logits_and_hidden(tree, np.array(order)), strict=True
    ):
        torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_answers_and_hidden_states_are_those_of_the_general_path() -> None:
    lm = tiny.lm("qwen3")
    prompts, tree = [[1, 30], [1, 31, 32, 33]], build(tiny.groups())
    nodes = tree.targets.source[::-1].copy()
    found = []
    for own in (lm._own, None):
        lm._own = own
        found.append((greedy(lm, prompts, 12), *lm.logits_and_hidden(tree, nodes), lm.work.tokens))
    (ours, *tensors, work), (theirs, *wanted, both) = found
    assert ours == theirs
    assert 2 * work == both
    for one, two in zip(tensors, wanted, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)
