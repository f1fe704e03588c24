"""Sites are found by structure: blocks, maps, norms and biases of many families, or a refusal."""

import pytest
import torch
import transformers
from torch import nn
from transformers import PreTrainedModel

from savile.errors import UsageError
from savile.lm.names import named, shortened
from savile.lm.sites import Sites
from tests import tiny

SHAPE = {
    "vocab_size": 64,
    "pad_token_id": 0,
    "hidden_size": 32,
    "intermediate_size": 48,
    "moe_intermediate_size": 16,
    "ffn_dim": 48,
    "word_embed_proj_dim": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 4,
    "num_experts": 4,
    "head_dim": 8,
}
"""Settings of tiny models; a family takes those it has."""
LLAMA_LIKE = ("self_attn", "mlp", "k_proj v_proj", "down_proj", "norm")
FAMILIES = {
    "Llama": LLAMA_LIKE,
    "Mistral": LLAMA_LIKE,
    "Qwen2": LLAMA_LIKE,
    "Qwen3": LLAMA_LIKE,
    "Gemma2": LLAMA_LIKE,
    "Gemma3": LLAMA_LIKE,
    "Olmo2": LLAMA_LIKE,
    "SmolLM3": LLAMA_LIKE,
    "Granite": LLAMA_LIKE,
    "Cohere": LLAMA_LIKE,
    "Phi3": ("self_attn", "mlp", "qkv_proj", "down_proj", "norm"),
    "OPT": ("self_attn", "fc2", "k_proj v_proj", "fc2", "final_layer_norm"),
    "GPT2": ("attn", "mlp", "c_attn", "c_proj", "ln_f"),
    "GPTNeoX": ("attention", "mlp", "query_key_value", "dense_4h_to_h", "final_layer_norm"),
    "GPTJ": ("attn", "mlp", "k_proj v_proj", "fc_out", "ln_f"),
    "Bloom": ("self_attention", "mlp", "query_key_value", "dense_4h_to_h", "ln_f"),
    "Falcon": ("self_attention", "mlp", "query_key_value", "dense_4h_to_h", "ln_f"),
    "Mpt": ("attn", "ffn", "Wqkv", "down_proj", "norm_f"),
}
"""Last names: attention, feed-forward, maps of keys and values, the feed-forward's output, norm."""


def build(family: str) -> PreTrainedModel:
    """Return a model without numbers."""
    configs = (f"{family}TextConfig", f"{family}Config")
    configured = next(
        getattr(transformers, name) for name in configs if hasattr(transformers, name)
    )
    known = {*configured().to_dict(), *configured.attribute_map}
    config = configured(**{k: v for k, v in SHAPE.items() if k in known})
    classes = (f"{family}ForCausalLM", f"{family}LMHeadModel")
    made = next(getattr(transformers, name) for name in classes if hasattr(transformers, name))
    with torch.device("meta"):
        model: PreTrainedModel = made(config)
    return model


def last(name: str) -> str:
    return name.rsplit(".", 1)[-1]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_has_its_blocks_and_maps(family: str) -> None:
    model = build(family)
    sites = Sites(model)
    attention, feed_forward, keys_values, output, norm = FAMILIES[family]
    layers = sites.layers()
    assert [name for name in layers if not name.endswith((".0", ".1"))] == []
    blocks = sites.attention_blocks()
    assert [block.name for block in blocks] == [f"{layer}.{attention}" for layer in layers]
    forward = sites.feed_forward_blocks()
    assert [block.name for block in forward] == [f"{layer}.{feed_forward}" for layer in layers]
    maps = [last(site.name) for site in sites.key_value_maps()]
    assert maps == 2 * keys_values.split()
    outputs = sites.feed_forward_outputs()
    assert [last(site.name) for site in outputs] == [output, output]
    assert all(site.out_features == sites.hidden_size == 32 for site in outputs)
    assert [last(name) for name in sites.final_norms()] == [norm]


@pytest.mark.parametrize(("family", "ends"), [("Bloom", (True, True)), ("Mpt", (False, True))])
def test_a_block_that_adds_the_residual_itself_ends_before_it(
    family: str, ends: tuple[bool, bool]
) -> None:
    sites = Sites(build(family))
    found = (sites.attention_blocks()[0], sites.feed_forward_blocks()[0])
    assert tuple(isinstance(block.last, nn.Linear) for block in found) == ends


def test_a_feed_forward_of_two_maps_goes_from_the_first_to_the_last() -> None:
    model = build("OPT")
    block = Sites(model).feed_forward_blocks()[1]
    layer = model.get_submodule("model.decoder.layers.1")
    assert (block.first, block.last) == (layer.get_submodule("fc1"), layer.get_submodule("fc2"))


@pytest.mark.parametrize("family", ["Mixtral", "Qwen2Moe", "Qwen3Moe", "GptOss"])
def test_experts_are_one_block_but_no_linear_map(family: str) -> None:
    sites = Sites(build(family))
    assert [last(block.name) for block in sites.feed_forward_blocks()] == ["mlp", "mlp"]
    with pytest.raises(UsageError, match=r"does not know.*no single linear map.*mlp"):
        sites.feed_forward_outputs()


@pytest.mark.parametrize("family", ["Mamba", "Jamba"])
def test_layers_without_attention_are_refused(family: str) -> None:
    sites = Sites(build(family))
    for find in (sites.attention_blocks, sites.feed_forward_blocks, sites.key_value_maps):
        with pytest.raises(UsageError, match=rf"does not know.*{family}ForCausalLM.*one attention"):
            find()


@pytest.mark.parametrize("family", [*tiny.FAMILIES, *tiny.FALLBACK])
def test_norms_are_all_vectors_that_scale_and_shift(family: str) -> None:
    model = tiny.model(family)
    sites = Sites(model)
    found = sites.parameters_of(sites.norms())
    linear = {id(p) for site in sites.linear_maps() for p in site.module.parameters()}
    vectors = {
        name
        for name, p in model.named_parameters()
        if p.dim() == 1 and id(p) not in linear and not name.startswith("lm_head")
    }
    assert found.keys() == vectors


def test_a_gradient_reaches_whole_layers_from_the_first_that_trains() -> None:
    model = tiny.model("llama")
    sites = Sites(model)
    named_parameters = dict(model.named_parameters())

    def reached(*trained: torch.Tensor) -> list[str]:
        ids = {id(p) for p in sites.reached(trained)}
        return [name for name, p in named_parameters.items() if id(p) in ids]

    everything = list(named_parameters)
    last_layer = named_parameters["model.layers.1.post_attention_layernorm.weight"]
    assert reached(last_layer) == [
        n for n in everything if n.startswith(("model.layers.1.", "model.norm", "lm_head"))
    ]
    assert reached(torch.zeros(1), last_layer) == everything
    assert reached(named_parameters["model.embed_tokens.weight"]) == everything


KNOWN = ["h.0.attn.c_attn", "h.0.attn.c_proj", "h.0.mlp.c_proj", "h.1.mlp.c_proj", "ln"]


def test_names_match_by_whole_last_parts() -> None:
    assert named(["c_proj"], KNOWN, "here") == KNOWN[1:4]
    assert named(["mlp.c_proj", "ln"], KNOWN, "here") == KNOWN[2:]
    assert named([], KNOWN, "here") == []
    with pytest.raises(
        UsageError, match=r"^here: the base has no such module; found proj; .*c_attn"
    ):
        named(["proj"], KNOWN, "here")


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (KNOWN[1:4], ["c_proj"]),
        (KNOWN[2:4], ["mlp.c_proj"]),
        (KNOWN[3:4], ["1.mlp.c_proj"]),
        ([KNOWN[0], KNOWN[2], KNOWN[3]], ["c_attn", "mlp.c_proj"]),
    ],
)
def test_names_are_shortened_to_what_tells_them_apart(names: list[str], short: list[str]) -> None:
    assert shortened(names, KNOWN) == short
    assert named(short, KNOWN, "here") == names
