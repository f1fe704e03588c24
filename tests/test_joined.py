"""Deltas that train together: each keeps its rate, its state and its place."""

import pytest
import torch
from torch import Tensor

from savile.deltas.base import Delta
from savile.deltas.full import Full
from savile.deltas.last_layers import LastLayers
from savile.deltas.lora import LoRA
from savile.deltas.prompt_tuning import PromptTuning
from savile.joined import Joined, joined
from savile.lm.model import LM
from savile.lm.tree import build
from tests import tiny
from tests.contracts.tree_gate import LIMIT, measure, shake

BOTH = Joined(members=(PromptTuning(num_virtual_tokens=3), LoRA(r=2)))


@torch.no_grad()
def scores(lm: LM) -> Tensor:
    return lm.logprobs(build(tiny.groups()))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_tree_equals_separate_sequences(family: str) -> None:
    errors = measure(tiny.lm(family), BOTH)
    assert max(errors[:2]) <= LIMIT, errors.worst


def test_one_delta_is_itself_and_none_is_none() -> None:
    lora = LoRA()
    assert joined([lora]) is lora
    assert joined([]) is None


@pytest.mark.parametrize("members", [BOTH.members, (LoRA(r=2), Full())])
def test_state_disabled_and_detach(members: tuple[LoRA, Full]) -> None:
    lm, delta = tiny.lm("llama"), Joined(members=members)
    base = scores(lm)
    with delta.attach(lm, 0) as attached:
        shake(attached)
        own, kept = scores(lm), attached.state()
        with attached.disabled():
            assert torch.equal(scores(lm), base)
        assert not torch.equal(own, base)
    assert torch.equal(scores(lm), base)
    with delta.attach(lm, 1) as attached:
        attached.load(kept)
        assert torch.equal(scores(lm), own)
    assert torch.equal(scores(lm), base)


@pytest.mark.parametrize("other", [Full(), LastLayers(n=1)])
def test_merging_beside_trained_weights_gives_the_base_back(other: Delta) -> None:
    lm = tiny.lm("llama")
    delta = joined([LoRA(r=2), other])
    assert delta is not None
    before = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    with delta.attach(lm, 0) as attached:
        shake(attached)
        own = scores(lm)
        assert attached.merge()
        torch.testing.assert_close(scores(lm), own, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(before[k], v) for k, v in lm.model.state_dict().items())


def test_each_member_keeps_its_learning_rate() -> None:
    lm = tiny.lm("llama")
    soft, lora = BOTH.members
    with BOTH.attach(lm, 0) as attached:
        factors = {name[0]: attached.rate_factor(name) for name in attached.parameters()}
    assert BOTH.start_rate(lm) == soft.start_rate(lm)
    assert factors == {"0": 1.0, "1": lora.start_rate(lm) / soft.start_rate(lm)}
