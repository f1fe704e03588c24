"""LoRA: its formula, its scale, its targets, its size."""

import pytest
import torch

from savile.deltas.dora import DoRA
from savile.deltas.lora import LoRA
from savile.errors import UsageError
from savile.lm.tree import build
from tests import tiny
from tests.contracts.tree_gate import shake


@pytest.mark.parametrize(
    ("delta", "scale"),
    [
        (LoRA(), 2.0),
        (LoRA(r=4, lora_alpha=4.0), 1.0),
        (LoRA(r=16, lora_alpha=8.0, use_rslora=True), 2.0),
        (LoRA(r=4, use_rslora=True), 4.0),
    ],
)
def test_the_scale_is_the_papers(delta: LoRA, scale: float) -> None:
    assert delta.scale == pytest.approx(scale)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_map_of_the_trunk_is_updated_by_the_formula(family: str) -> None:
    lm, delta = tiny.lm(family), LoRA(r=3, lora_alpha=5.0)
    x = torch.randn(1, 7, 512, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), delta.attach(lm, 0) as attached:
        shake(attached)
        named = attached.parameters()
        sites = lm.sites.linear_maps()
        assert len(named) == 2 * len(sites) >= 8
        head = lm.model.get_output_embeddings()
        for site in sites:
            assert site.module is not head
            a, b = named[f"{site.name}.lora_A"], named[f"{site.name}.lora_B"]
            assert (a.shape, b.shape) == ((3, site.in_features), (site.out_features, 3))
            given = x[..., : site.in_features]
            with attached.disabled():
                base = site.module(given)
            wanted = base + 5.0 / 3 * given @ a.T @ b.T
            torch.testing.assert_close(site.module(given), wanted, rtol=1e-5, atol=1e-5)


def test_its_size_is_the_formula() -> None:
    lm = tiny.lm("llama")
    with LoRA(r=5).attach(lm, 0) as attached:
        n = sum(p.numel() for p in attached.parameters().values())
    assert n == sum(5 * (s.in_features + s.out_features) for s in lm.sites.linear_maps())


def test_targets_are_chosen_by_name() -> None:
    with LoRA(target_modules=("q_proj", "v_proj")).attach(tiny.lm("llama"), 0) as attached:
        maps = {name.rsplit(".", 2)[1] for name in attached.parameters()}
    assert maps == {"q_proj", "v_proj"}


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (("query",), "no such module.*query.*q_proj"),
        (("q_proj", "qproj"), "no such module.*qproj.*q_proj"),
        ((), "no linear map is chosen"),
    ],
)
def test_a_target_that_is_not_there_is_refused(targets: tuple[str, ...], said: str) -> None:
    lm = tiny.lm("llama")
    with pytest.raises(UsageError, match=rf"(?s)target_modules.*{said}"):
        LoRA(target_modules=targets).attach(lm, 0)


def test_an_odd_rank_cannot_start_orthogonal() -> None:
    with pytest.raises(UsageError, match=r"(?s)r: .*even rank.*Use r: 6"):
        LoRA(r=5, init_lora_weights="orthogonal").attach(tiny.lm("llama"), 0)


def test_an_orthogonal_start_moves_both_factors_and_changes_nothing_yet() -> None:
    lm = tiny.lm("llama")
    with torch.no_grad():
        tree = build(tiny.groups())
        base = lm.logprobs(tree)
        with LoRA(init_lora_weights="orthogonal").attach(lm, 0) as attached:
            torch.testing.assert_close(lm.logprobs(tree), base, rtol=1e-5, atol=1e-5)
            assert all(bool(p.abs().mean() > 0.01) for p in attached.parameters().values())


def test_the_gaussian_start_has_the_papers_spread() -> None:
    with LoRA(r=16, init_lora_weights="gaussian").attach(tiny.lm("llama"), 0) as attached:
        named = attached.parameters()
        a = torch.cat([p.flatten() for name, p in named.items() if name.endswith("lora_A")])
        b = [p for name, p in named.items() if name.endswith("lora_B")]
    assert float(a.detach().std()) == pytest.approx(1 / 16, rel=0.05)
    assert not any(bool(p.any()) for p in b)


def test_lora_plus_raises_the_rate_of_b_as_much_as_it_lowers_that_of_a() -> None:
    lm, plain = tiny.lm("llama"), LoRA()
    for delta in (LoRA(loraplus_lr_ratio=16.0), DoRA(loraplus_lr_ratio=16.0)):
        assert delta.start_rate(lm) == pytest.approx(plain.start_rate(lm) / 4)


def test_only_b_trains_at_the_rate_of_lora_plus() -> None:
    with LoRA(loraplus_lr_ratio=16.0).attach(tiny.lm("llama"), 0) as attached:
        factors = {name[-6:]: attached.rate_factor(name) for name in attached.parameters()}
    assert factors == {"lora_A": 1.0, "lora_B": 16.0}


def test_two_seeds_start_apart() -> None:
    lm = tiny.lm("llama")
    starts = []
    for seed in (0, 1):
        with LoRA().attach(lm, seed) as attached:
            starts.append(attached.state())
    assert any(not torch.equal(starts[0][k], starts[1][k]) for k in starts[0])
