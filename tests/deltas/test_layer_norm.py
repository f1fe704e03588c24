"""LayerNorm tuning: exactly the norms train."""

import pytest
from transformers import OlmoConfig, OlmoForCausalLM

from savile.deltas.layer_norm import LayerNorm
from savile.errors import UsageError
from savile.lm.model import LM
from tests import tiny

LAYER = {
    "llama": ("input_layernorm.weight", "post_attention_layernorm.weight"),
    "qwen3": (
        "input_layernorm.weight",
        "post_attention_layernorm.weight",
        "self_attn.q_norm.weight",
        "self_attn.k_norm.weight",
    ),
    "gemma2": (
        "input_layernorm.weight",
        "post_attention_layernorm.weight",
        "pre_feedforward_layernorm.weight",
        "post_feedforward_layernorm.weight",
    ),
    "gpt2": ("ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias"),
}
"""The parameters of the norms of one layer."""
OUTSIDE = {
    "llama": ("model.norm.weight",),
    "qwen3": ("model.norm.weight",),
    "gemma2": ("model.norm.weight",),
    "gpt2": ("transformer.ln_f.weight", "transformer.ln_f.bias"),
}


@pytest.mark.parametrize("family", LAYER)
def test_exactly_the_norms_train(family: str) -> None:
    lm = tiny.lm(family)
    wanted = {f"{layer}.{name}" for layer in lm.sites.layers() for name in LAYER[family]}
    with LayerNorm().attach(lm, 0) as attached:
        assert attached.parameters().keys() == wanted | set(OUTSIDE[family])
        trained = {name for name, p in lm.model.named_parameters() if p.requires_grad}
        assert trained == attached.parameters().keys()
        assert attached.merge()


def test_norms_are_chosen_by_name() -> None:
    lm = tiny.lm("llama")
    with LayerNorm(target_modules=("input_layernorm",)).attach(lm, 0) as attached:
        names = list(attached.parameters())
    assert names == [f"model.layers.{i}.input_layernorm.weight" for i in range(2)]
    with pytest.raises(UsageError, match=r"target_modules.*no such module.*up_proj"):
        LayerNorm(target_modules=("up_proj",)).attach(lm, 0)


def test_norms_without_parameters_are_refused() -> None:
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = OlmoConfig(vocab_size=tiny.VOCABULARY, num_attention_heads=4, **shape, **ends)
    lm = LM(OlmoForCausalLM(config), tiny.tokenizer(), name="olmo")
    with pytest.raises(UsageError, match=r"no parameters to train.*OlmoForCausalLM"):
        LayerNorm().attach(lm, 0)
