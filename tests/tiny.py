"""Tiny models and tokenizers built in memory, the same bits every time they are asked for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTJConfig,
    GPTJForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from savile.lm.model import LM
from savile.lm.tree import Paths

VOCABULARY: Final = 264
"""256 bytes, the special tokens, and a few rows no token uses (as real embeddings are padded)."""
SPECIAL: Final = ("<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
WIDTH: Final = 32
CONTEXT: Final = 256
WINDOW: Final = 10
"""Sliding window of the Mistral and Gemma 2 shapes: shorter than the stems of the tests."""

CHATML: Final = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM: Final = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

LLAMA_LIKE: Final[Mapping[str, Any]] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_NEOX: Final = {k: v for k, v in LLAMA_LIKE.items() if k != "num_key_value_heads"}
_ENDS: Final[Mapping[str, Any]] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_GPT: Final[Mapping[str, Any]] = {
    "vocab_size": VOCABULARY,
    "n_embd": WIDTH,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": CONTEXT,
    **_ENDS,
}

_BUILD: Final[Mapping[str, Callable[[], PreTrainedModel]]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA_LIKE)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**LLAMA_LIKE)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**LLAMA_LIKE, head_dim=8)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**LLAMA_LIKE, sliding_window=WINDOW)),
    "gemma2": lambda: Gemma2ForCausalLM(
        Gemma2Config(**LLAMA_LIKE, sliding_window=WINDOW, head_dim=8, query_pre_attn_scalar=8)
    ),
    "gpt_neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**_NEOX)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**_GPT)),
    "bloom": lambda: BloomForCausalLM(
        BloomConfig(vocab_size=VOCABULARY, hidden_size=WIDTH, n_layer=2, n_head=4, **_ENDS)
    ),
    "gptj": lambda: GPTJForCausalLM(GPTJConfig(**_GPT, rotary_dim=4)),
}

FALLBACK: Final = ("bloom", "gptj")
"""Families that ignore the registered attention and must run on plain batches."""
FAMILIES: Final = tuple(name for name in _BUILD if name not in FALLBACK)
"""Families that run on trees."""


def tokenizer(chat_template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer: one token a byte, five special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {c: i for i, c in enumerate([*SPECIAL, *alphabet])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=list(SPECIAL[3:]),
        chat_template=chat_template,
    )


def model(family: str, *, seed: int = 1, scale: float = 3.0) -> PreTrainedModel:
    """Return a random float32 model; `scale` widens its matrices so that logits differ clearly."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = _BUILD[family]().float().eval()
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.dim() > 1:
                parameter.mul_(scale)
    return built


def lm(family: str, *, seed: int = 1, chat_template: str | None = CHATML) -> LM:
    """Return a random model of one family, wrapped."""
    return LM(model(family, seed=seed), tokenizer(chat_template), name=family)


def letters(texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return how often each byte stands in each text, float32 [N, 256]: a sentence encoder's part
    where none is installed."""
    counts = [np.bincount(list(text.encode()), minlength=256) for text in texts]
    return np.stack(counts).astype(np.float32)


def groups() -> list[Paths]:
    """Return prompts with a common stem, branches of unequal length and completions that share."""
    stem = [1, *range(20, 32)]
    return [
        Paths([*stem, 40, 41], [[50, 51, 52], [50, 53, 54, 4], [60]]),
        Paths([*stem, 42], [[50, 51], [61, 62, 63]]),
        Paths([*stem, 43, 44, 45, 46, 47, 48, 49, 40], [[64, 4], [65, 4]]),
    ]


def paths(items: Sequence[Paths]) -> list[tuple[list[int], list[int]]]:
    """Return every (prompt, completion) of some groups, in order."""
    return [(list(g.prompt), list(c)) for g in items for c in g.completions]
