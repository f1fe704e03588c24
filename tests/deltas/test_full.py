"""Full fine-tuning: all parameters, tied ones once."""

import pytest

from savile.deltas.full import Full
from tests import tiny


@pytest.mark.parametrize("family", [*tiny.FAMILIES, *tiny.FALLBACK])
def test_every_parameter_trains_once(family: str) -> None:
    lm = tiny.lm(family)
    with Full().attach(lm, 0) as attached:
        named = attached.parameters()
        assert sum(p.numel() for p in named.values()) == lm.n_parameters
        assert len({id(p) for p in named.values()}) == len(named)
        assert attached.to_peft() is None


def test_leaving_disabled_by_an_error_brings_the_tuned_weights_back() -> None:
    lm = tiny.lm("llama")
    with Full().attach(lm, 0) as attached:
        for parameter in attached.parameters().values():
            parameter.data += 1
        before = attached.state()

        def fail() -> None:
            with attached.disabled():
                raise KeyError("inside")

        with pytest.raises(KeyError):
            fail()
        after = attached.state()
        assert all((after[name] == before[name]).all() for name in before)
