"""What work costs: counted tokens become FLOPs, and a context has its own share."""

import pytest

from savile.deltas.base import Delta
from savile.deltas.full import Full
from savile.deltas.last_layers import LastLayers
from savile.deltas.layer_norm import LayerNorm
from savile.deltas.lora import LoRA
from savile.deltas.prompt_tuning import PromptTuning
from savile.lm.model import LM, Work
from savile.lm.tree import build
from savile.meter import Meter, backward_flops, forward_flops
from tests import tiny

WORK = Work(tokens=100, predictions=7)


def priced(lm: LM, delta: Delta) -> float:
    """Return the FLOPs of gradients, in units of the forward work."""
    with delta.attach(lm, 0) as attached:
        found = backward_flops(lm, WORK, attached.parameters().values())
    return found / forward_flops(lm, WORK)


def test_flops_are_the_formula() -> None:
    lm = tiny.lm("llama")
    wanted = 2 * (100 * lm.trunk_parameters + 7 * lm.head_parameters)
    assert forward_flops(lm, WORK) == wanted


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom"])
def test_a_frozen_base_costs_one_more_pass_and_a_trained_one_two(family: str) -> None:
    lm = tiny.lm(family)
    assert priced(lm, LoRA()) == 1
    assert priced(lm, PromptTuning()) == 1
    assert priced(lm, Full()) == 2


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom"])
def test_gradients_are_priced_down_to_the_first_layer_that_trains(family: str) -> None:
    lm = tiny.lm(family)
    last = lm.sites.parameters_of([*list(lm.sites.layers())[-1:], *lm.sites.final_norms()])
    size = sum(p.numel() for p in last.values())
    wanted = 2 * (100 * 2 * size + 7 * lm.head_parameters)  # no gradient enters the first layer
    assert priced(lm, LastLayers(n=1)) == pytest.approx(wanted / forward_flops(lm, WORK))
    assert (
        priced(lm, LastLayers(n=1)) < 1.1 < 1.5 < priced(lm, LastLayers(n=2)) < priced(lm, Full())
    )


def test_norms_cost_little_more_than_a_frozen_base() -> None:
    lm = tiny.lm("llama")
    norms = sum(p.numel() for p in lm.sites.parameters_of(lm.sites.norms()).values())
    extra = 2 * 100 * norms / forward_flops(lm, WORK)
    assert priced(lm, LayerNorm()) == pytest.approx(1 + extra)


def test_seconds_and_peak_are_those_of_the_context() -> None:
    lm, tree = tiny.lm("llama"), build(tiny.groups())
    with Meter(lm) as meter:
        lm.logprobs(tree)
    assert meter.seconds > 0
    assert meter.peak_bytes is None or meter.peak_bytes > 1_000_000


@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_counted_tokens_are_those_computed(family: str) -> None:
    lm, tree = tiny.lm(family), build(tiny.groups())
    lm.work = Work()
    lm.logprobs(tree)
    assert lm.work.separate_tokens == tree.separate_tokens
    if lm.uses_tree:
        assert lm.work.tokens == len(tree)
    else:  # every path is computed whole, padding included
        assert lm.work.tokens > tree.separate_tokens // 2 > len(tree) // 2


def test_an_error_inside_is_not_swallowed() -> None:
    def fail() -> None:
        with Meter(tiny.lm("llama")):
            raise KeyError("inside")

    with pytest.raises(KeyError):
        fail()
