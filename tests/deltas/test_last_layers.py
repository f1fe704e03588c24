"""Partial fine-tuning: exactly the last layers and the final norm train."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from savile.deltas.last_layers import LastLayers
from savile.errors import UsageError
from savile.lm.model import LM
from tests import tiny

FINAL = {
    "llama": {"model.norm.weight"},
    "gpt_neox": {"gpt_neox.final_layer_norm.weight", "gpt_neox.final_layer_norm.bias"},
    "gpt2": {"transformer.ln_f.weight", "transformer.ln_f.bias"},
    "bloom": {"transformer.ln_f.weight", "transformer.ln_f.bias"},
}


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("family", FINAL)
def test_exactly_the_last_layers_and_the_final_norm_train(family: str, n: int) -> None:
    lm = tiny.lm(family)
    last = tuple(f"{layer}." for layer in list(lm.sites.layers())[-n:])
    inside = {name for name, _ in lm.model.named_parameters() if name.startswith(last)}
    with LastLayers(n=n).attach(lm, 0) as attached:
        assert attached.parameters().keys() == inside | FINAL[family]
        trained = {name for name, p in lm.model.named_parameters() if p.requires_grad}
        assert trained == attached.parameters().keys()
        assert attached.merge()
    assert len(inside) >= 6 * n


@pytest.mark.parametrize(("layers", "trained"), [(2, 1), (4, 1), (9, 2)])
def test_a_quarter_of_the_layers_trains_by_default(layers: int, trained: int) -> None:
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = LlamaConfig(
        vocab_size=tiny.VOCABULARY,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=layers,
        num_attention_heads=2,
        **ends,
    )
    with torch.random.fork_rng():
        lm = LM(LlamaForCausalLM(config), tiny.tokenizer(), name="deep")
    with LastLayers().attach(lm, 0) as attached:
        numbers = {name.split(".")[2] for name in attached.parameters() if ".layers." in name}
    assert numbers == {str(layers - 1 - back) for back in range(trained)}


def test_more_layers_than_there_are_is_refused() -> None:
    with pytest.raises(UsageError, match=r"n: .*fewer layers.*3.*1 to 2"):
        LastLayers(n=3).attach(tiny.lm("llama"), 0)
