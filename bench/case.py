"""What both sides of a training job are given: a random-weight Llama, a tokenizer, and token ids.

Speed does not depend on what the weights know, so they are random; the text is real (`texts.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple


class Shape(NamedTuple):
    """Sizes of a Llama."""

    width: int
    mlp: int
    layers: int
    heads: int
    groups: int
    """Heads of keys and values."""
    vocabulary: int
    tied: bool
    """Whether the output head is the embedding."""


SHAPES = {
    "5M": Shape(256, 688, 6, 4, 4, 8192, tied=True),
    "30M": Shape(512, 1408, 8, 8, 8, 32768, tied=False),
    "wide": Shape(448, 1200, 12, 7, 7, 151936, tied=True),
    "135M": Shape(576, 1536, 30, 9, 3, 49152, tied=True),
}
SPECIALS = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
CONTEXT = 2048


@dataclass(frozen=True, kw_only=True)
class Row:
    """One question with its answer, and the token ids that both sides train on."""

    question: str
    answer: str
    rejected: str | None
    prompt: list[int]
    completion: list[int]
    other: list[int]
    """Ids of the rejected answer; empty where there is none."""

    @property
    def tokens(self) -> int:
        """Tokens of its separate sequences: one, or two that repeat the prompt."""
        sequences = 2 if self.other else 1
        return sequences * len(self.prompt) + len(self.completion) + len(self.other)

    @property
    def longest(self) -> int:
        """Tokens of its longest sequence."""
        return len(self.prompt) + max(len(self.completion), len(self.other))


@dataclass(frozen=True, kw_only=True)
class Case:
    """What both sides are given."""

    model: str
    """Folder of the base model."""
    instruction: str
    rows: list[Row]
    batch_size: int
    learning_rate: float
    delta: str
    objective: str
    group: int = 1
    """Answers to each row."""
    written: int = 0
    """Most tokens of an answer that the policy writes; 0 where rows have theirs."""
    peer_order: list[int] | None = None
    """Row numbers in the order of our batches, for the peer; None: as they stand."""

    @property
    def tokens(self) -> int:
        """Real tokens of one pass over the rows: no padding, every sequence counted in full;
        written answers as if none ended by itself."""
        return self.counted(len(self.rows) * self.group * self.written)

    def counted(self, written: int) -> int:
        """Return the real tokens of one pass in which so many tokens were written."""
        if self.written:
            return written + self.group * sum(len(row.prompt) for row in self.rows)
        return sum(row.tokens for row in self.rows)

    @property
    def peer_rows(self) -> list[Row]:
        """The rows in the order in which the peer reads them."""
        return self.rows if self.peer_order is None else [self.rows[i] for i in self.peer_order]

    def save(self, path: Path) -> None:
        """Write the case for the worker processes."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @staticmethod
    def load(path: Path) -> Case:
        """Read what `save` wrote."""
        data = json.loads(path.read_text(encoding="utf-8"))
        return Case(**{**data, "rows": [Row(**row) for row in data["rows"]]})


def write_model(folder: Path, shape: str, texts: Iterable[str]) -> None:
    """Write tokenizer and random-weight model as an ordinary Hugging Face folder.

    Args:
        folder: where.
        shape: a name of `SHAPES`.
        texts: what the tokenizer learns its merges from; a vocabulary that they cannot fill stays
            in the weights all the same.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    size = SHAPES[shape]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    raw.decoder = decoders.ByteLevel()
    raw.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size.vocabulary,
            special_tokens=SPECIALS,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<|pad|>", eos_token="<|end|>", model_max_length=CONTEXT
    )
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=size.width,
        intermediate_size=size.mlp,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.groups,
        vocab_size=size.vocabulary,
        tie_word_embeddings=size.tied,
        max_position_embeddings=CONTEXT,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
