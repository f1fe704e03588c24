"""What all deltas share: learning rates and seeded starts."""

import pytest
import torch

from savile import registry
from savile.deltas.base import Delta, generator
from tests import tiny


@pytest.mark.parametrize("name", sorted(registry.parts("deltas")))
def test_a_given_rate_goes_before_the_default(name: str) -> None:
    lm = tiny.lm("llama")
    plain: Delta = registry.load("deltas", name)()
    given: Delta = registry.load("deltas", name)(learning_rate=0.125)
    assert plain.start_rate(lm) == plain.default_rate(lm) > 0
    assert given.start_rate(lm) == 0.125


def test_a_generator_depends_on_its_seed_alone() -> None:
    torch.manual_seed(1)
    a = torch.rand(3, generator=generator(5))
    torch.manual_seed(2)
    assert torch.equal(a, torch.rand(3, generator=generator(5)))
