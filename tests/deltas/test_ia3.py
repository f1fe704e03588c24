"""(IA)3: what it rescales, by which formula, and how it is merged."""

import pytest
import torch

from savile.deltas.ia3 import IA3
from savile.errors import UsageError
from tests import tiny
from tests.contracts.tree_gate import shake

TARGETS = {
    "llama": {"k_proj", "v_proj", "mlp.down_proj"},
    "qwen2": {"k_proj", "v_proj", "mlp.down_proj"},
    "gpt_neox": {"query_key_value", "mlp.dense_4h_to_h"},
    "gpt2": {"c_attn", "mlp.c_proj"},
    "bloom": {"query_key_value", "mlp.dense_4h_to_h"},
    "gptj": {"k_proj", "v_proj", "mlp.fc_out"},
}


def short(name: str) -> str:
    parts = name.removesuffix(".ia3_l").split(".")
    return ".".join(parts[-2:]) if parts[-2] == "mlp" else parts[-1]


@pytest.mark.parametrize("family", TARGETS)
def test_keys_values_and_inner_activations_are_rescaled(family: str) -> None:
    with IA3().attach(tiny.lm(family), 0) as attached:
        assert {short(name) for name in attached.parameters()} == TARGETS[family]


@pytest.mark.parametrize("family", TARGETS)
@pytest.mark.parametrize("merged", [False, True])
def test_a_map_computes_the_formula(family: str, merged: bool) -> None:
    lm, rng = tiny.lm(family), torch.Generator().manual_seed(0)
    x = torch.randn(1, 7, 512, generator=rng)
    for bias in lm.sites.biases().values():  # fresh models have zeros
        bias.normal_(generator=rng)
    with torch.no_grad(), IA3().attach(lm, 0) as attached:
        shake(attached, 0.5)
        named, base = attached.parameters(), {}
        with attached.disabled():
            for site in lm.sites.linear_maps():
                given = x[..., : site.in_features]
                scale = named.get(f"{site.name}.ia3_l")
                inner = scale is not None and ".mlp." in site.name
                assert scale is None or scale.shape[not inner] == 1
                outer = torch.ones(1) if scale is None or inner else scale.flatten()
                base[site.name] = site.module(given * scale.flatten() if inner else given) * outer
        assert not merged or attached.merge()
        for site in lm.sites.linear_maps():
            found = site.module(x[..., : site.in_features])
            torch.testing.assert_close(found, base[site.name], rtol=1e-5, atol=1e-5)


def test_targets_and_their_kind_are_chosen_by_name() -> None:
    lm = tiny.lm("llama")
    chosen = IA3(target_modules=("q_proj", "up_proj"), feedforward_modules=("up_proj",))
    with chosen.attach(lm, 0) as attached:
        shapes = {short(name): tuple(p.shape) for name, p in attached.parameters().items()}
    assert shapes == {"q_proj": (32, 1), "mlp.up_proj": (1, 32)}
    with IA3(target_modules=("v_proj", "down_proj")).attach(lm, 0) as attached:
        shapes = {short(name): tuple(p.shape) for name, p in attached.parameters().items()}
    assert shapes == {"v_proj": (16, 1), "mlp.down_proj": (1, 48)}


@pytest.mark.parametrize(
    ("delta", "where"),
    [
        (IA3(target_modules=("k_proj", "value")), "target_modules"),
        (IA3(target_modules=("k_proj",), feedforward_modules=("up_proj",)), "feedforward_modules"),
    ],
)
def test_a_module_that_is_not_there_is_refused(delta: IA3, where: str) -> None:
    with pytest.raises(UsageError, match=f"{where}: the base has no such module"):
        delta.attach(tiny.lm("llama"), 0)
