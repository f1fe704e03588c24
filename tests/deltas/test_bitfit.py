"""BitFit: exactly the biases train; a base that has none gets zeros beside its maps."""

import pytest
import torch

from savile.deltas.bitfit import BitFit
from tests import tiny
from tests.contracts.tree_gate import shake

WITH = ("qwen2", "gpt_neox", "gpt2", "bloom", "gptj")
WITHOUT = ("llama", "qwen3", "mistral", "gemma2")


@pytest.mark.parametrize("family", WITH)
def test_exactly_the_biases_of_the_base_train(family: str) -> None:
    lm = tiny.lm(family)
    biases = {name for name, _ in lm.model.named_parameters() if name.endswith(".bias")}
    with BitFit().attach(lm, 0) as attached:
        assert attached.parameters().keys() == biases
        trained = {n for n, p in lm.model.named_parameters() if p.requires_grad}
        assert trained == biases
        assert attached.merge()
    assert len(biases) >= 6


@pytest.mark.parametrize("family", WITHOUT)
def test_a_base_without_biases_gets_one_for_every_map(family: str) -> None:
    lm = tiny.lm(family)
    x = torch.randn(1, 7, 512, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), BitFit().attach(lm, 0) as attached:
        shake(attached)
        named = attached.parameters()
        sites = lm.sites.linear_maps()
        assert named.keys() == {f"{site.name}.bias" for site in sites}
        for site in sites:
            given = x[..., : site.in_features]
            with attached.disabled():
                base = site.module(given)
            assert torch.equal(site.module(given), base + named[f"{site.name}.bias"])
        assert not attached.merge()
        assert not any(p.requires_grad for p in lm.model.parameters())
