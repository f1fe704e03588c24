"""Prefix tuning: where its keys and values start, how fast they train, and what it refuses."""

import pytest
import torch
from torch import Tensor
from transformers import MambaConfig, MambaForCausalLM

from savile.deltas.base import PROMPT_EMBEDDINGS, Peft
from savile.deltas.prefix_tuning import NOISE, PrefixTuning
from savile.errors import UsageError
from savile.lm.model import LM
from savile.lm.tree import Paths, build
from tests import tiny

SOFT = PrefixTuning(num_virtual_tokens=4, prefix_tuning_init="text", prefix_tuning_init_text="soft")


def start(delta: PrefixTuning, lm: LM, seed: int = 0) -> Tensor:
    """Return the initial keys and values, [n, F]."""
    with delta.attach(lm, seed) as attached:
        peft = attached.to_peft()
    assert peft is not None
    return peft.tensors[PROMPT_EMBEDDINGS]


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom", "gptj", "mistral"])
def test_those_of_a_text_are_the_text(family: str, projected: bool) -> None:
    lm = tiny.lm(family)
    ids = lm.encode_completion("soft")[:-1]
    delta = PrefixTuning(
        num_virtual_tokens=4,
        prefix_tuning_init="text",
        prefix_tuning_init_text="soft",
        prefix_projection=projected,
    )
    wanted = [Paths([*ids, *group.prompt], group.completions) for group in tiny.groups()]
    with torch.no_grad():
        hard = lm.logprobs(build(wanted))
        with delta.attach(lm, 0):
            soft = lm.logprobs(build(tiny.groups()))
    torch.testing.assert_close(soft, hard, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n", [2, 5, 12])
def test_a_text_is_repeated_or_cut(n: int) -> None:
    lm = tiny.lm("llama")
    ids = lm.encode_completion("color")[:-1]
    kept = lm.keys_and_values([ids[i % len(ids)] for i in range(n)])
    wanted = torch.cat([x.transpose(0, 1).flatten(1) for pair in kept for x in pair], 1)
    delta = PrefixTuning(
        num_virtual_tokens=n, prefix_tuning_init="text", prefix_tuning_init_text="color"
    )
    assert torch.equal(start(delta, lm), wanted)


def test_the_instruction_is_the_tasks_unless_a_text_is_given() -> None:
    asked = PrefixTuning(prefix_tuning_init="instruction")
    assert asked.for_task("Route it.", ()).prefix_tuning_init_text == "Route it."
    assert SOFT.for_task("Route it.", ()) is SOFT
    with pytest.raises(UsageError, match="no text for prefix_tuning_init"):
        asked.for_task(None, ()).attach(tiny.lm("llama"), 0)


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_noise_is_a_share_of_the_bases_own_keys_and_values(scale: float) -> None:
    lm = tiny.lm("gpt2")
    with torch.no_grad():  # the last layer's keys (the middle third) grow, whatever they are
        for block in lm.model.transformer.h:
            block.attn.c_attn.weight[:, tiny.WIDTH : 2 * tiny.WIDTH] *= scale
            block.attn.c_attn.bias[tiny.WIDTH : 2 * tiny.WIDTH] *= scale
    kept = lm.keys_and_values([*range(3, 253)])
    found = start(PrefixTuning(num_virtual_tokens=200), lm).split(tiny.WIDTH, 1)
    for part, own in zip(found, [x for pair in kept for x in pair], strict=True):
        wanted = NOISE * float(own.square().mean().sqrt())
        assert float(part.square().mean().sqrt()) == pytest.approx(wanted, rel=0.25)


def test_another_seed_is_another_start() -> None:
    lm = tiny.lm("llama")
    assert not torch.equal(start(PrefixTuning(), lm), start(PrefixTuning(), lm, seed=1))


def test_the_rate_grows_with_the_bases_keys_and_values() -> None:
    lm = tiny.lm("gpt2")
    before = PrefixTuning().default_rate(lm)
    with torch.no_grad():
        for block in lm.model.transformer.h:
            width = tiny.WIDTH
            block.attn.c_attn.weight[:, width:] *= 3
            block.attn.c_attn.bias[width:] *= 3
            block.attn.c_proj.weight /= 3  # what the layer writes stays the same
            block.attn.c_attn.weight[:, :width] /= 3
            block.attn.c_attn.bias[:width] /= 3
    assert PrefixTuning().default_rate(lm) == pytest.approx(3 * before, rel=1e-3)
    assert PrefixTuning(prefix_projection=True).default_rate(lm) == PrefixTuning.projected_rate


@pytest.mark.parametrize("hidden", [3, 24])
def test_the_projection_computes_once_in_a_forward_pass_and_is_kept_to_resume(hidden: int) -> None:
    lm = tiny.lm("llama")
    delta = PrefixTuning(num_virtual_tokens=5, prefix_projection=True, encoder_hidden_size=hidden)
    with delta.attach(lm, 0) as attached:
        assert lm.prefix is not None
        assert {k: tuple(p.shape) for k, p in attached.state().items()} == {
            "embedding.weight": (5, 16),
            "transform.0.weight": (hidden, 16),
            "transform.0.bias": (hidden,),
            "transform.2.weight": (64, hidden),
            "transform.2.bias": (64,),
        }
        counted: list[int] = []
        layers = lm.prefix.layers
        lm.prefix = lm.prefix._replace(layers=lambda: counted.append(1) or layers())  # type: ignore[func-returns-value]
        lm.logprobs(build(tiny.groups()))
        assert len(counted) == 1


def test_a_base_without_keys_and_values_is_refused() -> None:
    config = MambaConfig(
        vocab_size=tiny.VOCABULARY, hidden_size=tiny.WIDTH, num_hidden_layers=2, state_size=4
    )
    lm = LM(MambaForCausalLM(config), tiny.tokenizer(), name="mamba")
    with pytest.raises(UsageError, match="0 of 2 layers"):
        PrefixTuning().attach(lm, 0)
    assert lm.prefix is None


def test_a_text_longer_than_the_context_is_refused() -> None:
    delta = PrefixTuning(
        num_virtual_tokens=tiny.CONTEXT + 1,
        prefix_tuning_init="text",
        prefix_tuning_init_text="soft",
    )
    with pytest.raises(UsageError, match="no room for the prefix"):
        delta.attach(tiny.lm("gpt2"), 0)


def test_files_of_other_methods_are_not_read() -> None:
    assert PrefixTuning.from_peft(Peft({"peft_type": "P_TUNING"}, {})) is None
