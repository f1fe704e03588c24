"""What work costs: counted tokens become FLOPs, and a context has its own share."""

import pytest

from savile.lm.model import Work
from savile.lm.tree import build
from savile.meter import Meter, flops
from tests import tiny


@pytest.mark.parametrize(("training", "passes"), [("none", 1), ("frozen", 2), ("full", 3)])
def test_flops_are_the_formula(training: str, passes: int) -> None:
    lm = tiny.lm("llama")
    work = Work(tokens=100, predictions=7)
    wanted = 2 * passes * (100 * lm.trunk_parameters + 7 * lm.head_parameters)
    assert flops(lm, work, training) == wanted  # type: ignore[arg-type]


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
