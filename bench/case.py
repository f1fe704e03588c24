"""The benchmark's case: a random-weight Llama, a tokenizer, Banking77 messages and their intents.

Speed does not depend on what the weights know, so they are random; the text is real, because
lengths and repetition decide what sharing and padding cost. The data (Casanueva et al. 2020,
CC-BY-4.0) is not part of this repository and is never replaced by generated text.
"""

from __future__ import annotations

import csv
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHAPES: dict[str, dict[str, Any]] = {
    "5M": {
        "hidden_size": 256,
        "intermediate_size": 688,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": 8192,
        "tie_word_embeddings": True,
    },
    "30M": {
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "vocab_size": 32768,
        "tie_word_embeddings": False,
    },
}
SPECIALS = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
SHORT = "Classify the customer's message."
LONG = "Classify the customer's message into exactly one of these intents: {labels}."


@dataclass(frozen=True, kw_only=True)
class Row:
    """One message, its intent, and the token ids that both sides train on."""

    text: str
    label: str
    prompt: list[int]
    completion: list[int]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What both sides are given."""

    model: str
    """Folder of the base model."""
    instruction: str
    rows: list[Row]
    batch_size: int
    learning_rate: float
    rank: int
    peer_order: list[int] | None = None
    """Row numbers in the order of our batches, for the peer; None: as they stand."""

    @property
    def tokens(self) -> int:
        """Real tokens of one pass over the rows: no padding, every sequence counted in full."""
        return sum(len(row.prompt) + len(row.completion) for row in self.rows)

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


def banking77(folder: Path | None) -> list[tuple[str, str]]:
    """Return (message, intent) of the training file, or exit with what is missing."""
    path = (folder or ROOT.parent / "shared" / "data" / "banking77") / "train.csv"
    if not path.is_file():
        sys.exit(
            f"no Banking77 data: {path} does not exist. Give --data FOLDER with its train.csv "
            "(columns text,category; Casanueva et al. 2020). Nothing is measured on made-up text."
        )
    with path.open(encoding="utf-8", newline="") as file:
        return [(r["text"].strip(), r["category"].replace("_", " ")) for r in csv.DictReader(file)]


def instruction(kind: str, pairs: list[tuple[str, str]]) -> str:
    """Return the instruction: `short`, or `labels` with all intents spelled out."""
    return (
        SHORT if kind == "short" else LONG.format(labels=", ".join(sorted({c for _, c in pairs})))
    )


def sample(pairs: list[tuple[str, str]], n: int, seed: int) -> list[tuple[str, str]]:
    """Return `n` pairs in a seeded random order."""
    shuffled = pairs.copy()
    random.Random(seed).shuffle(shuffled)
    return shuffled[:n]


def write_model(folder: Path, shape: str, pairs: list[tuple[str, str]]) -> None:
    """Write tokenizer and random-weight model as an ordinary Hugging Face folder."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    def texts() -> Iterator[str]:
        yield instruction("labels", pairs)
        for text, label in pairs:
            yield f"{text} {label}"

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    raw.decoder = decoders.ByteLevel()
    size = SHAPES[shape]["vocab_size"]
    raw.train_from_iterator(
        texts(),
        trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=SPECIALS,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<|pad|>", eos_token="<|end|>", model_max_length=2048
    )
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        **SHAPES[shape],
        max_position_embeddings=2048,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
