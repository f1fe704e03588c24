"""A soft prompt as an ordinary model: its vectors become tokens that the chat template prepends.

    E' = [E; P]     W' = [W; w, ..., w], w the mean row of W     template' = t_1 ... t_n template

Any server that loads a transformers folder then runs it: the logits of the old tokens are those of
the attached soft prompt.

The new tokens are only ever read. The output head gets the mean of its own rows for each of them,
so their logit is the mean of all logits: never the largest, so never chosen greedily, whatever the
server; and exp(mean) <= mean(exp), so with a probability of at most 1 / V when sampled (less than
that by orders of magnitude where the model is sure of anything). `suppress_tokens` of the
generation configuration makes it 0 in transformers' `generate`. With a head tied to the embedding
the logit would be a product with P, which can be the largest; so a tied head is untied.

Cost: n * D values in the embedding and in the head; V * D more where the head was tied; n positions
of the context, as with the soft prompt.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple, final

import torch
from torch import Tensor, nn

from savile.deltas.base import SoftPrompt
from savile.errors import EnvironmentProblem, Problem
from savile.export.base import (
    Customization,
    PlainModel,
    of_plain_weights,
    rebuilt,
    write_model,
)
from savile.lm.model import LM, Root
from savile.lm.template import Template
from savile.types import Message

PROBES: Final = (
    (Message(role="user", content="a b"),),
    (
        Message(role="system", content="Be brief."),
        Message(role="user", content="1+1?"),
        Message(role="assistant", content="2"),
        Message(role="user", content="  indented\n"),
    ),
)
"""Chats whose ids must be the same with and without the new tokens before them."""


class Written(NamedTuple):
    """What was written beside what the base has."""

    tokens: tuple[str, ...]
    """The new tokens, in the order of the template."""
    ids: tuple[int, ...]
    untied: bool
    """Whether the base's head was tied to its embedding; the folder then holds V * D more."""


@final
@dataclass(frozen=True, kw_only=True)
class Vocabulary(PlainModel):
    """A soft prompt as new tokens of an ordinary model."""

    rank: ClassVar[int] = 5

    def refusal(self, made: Customization) -> str | None:
        """Return None for a soft prompt, alone or beside changes of plainly stored weights."""
        if (reason := of_plain_weights(made)) is not None:
            return reason
        assert made.attached is not None
        members = made.attached.members
        if not any(isinstance(one, SoftPrompt) for one in members):
            return "it has no soft prompt"
        if not all(isinstance(one, SoftPrompt) or one.merge() for one in members):
            return "beside its soft prompt it is more than a change of the base's weights"
        return None

    def write(self, made: Customization, folder: Path) -> None:
        """Write the model with its new tokens."""
        assert made.lm is not None
        write(made.lm, folder)


@torch.no_grad()
def write(lm: LM, folder: Path) -> Written:
    """Write the base with its soft prompt as a plain transformers folder.

    Args:
        lm: a base with a soft prompt attached; its weights are written as they are.
        folder: exists.

    Raises:
        EnvironmentProblem: the tokenizer would read chats differently behind the new tokens.
    """
    root = lm.root
    assert root is not None
    tokenizer, tokens, ids = _with_tokens(lm, root.tokens)
    model, untied = _with_rows(lm, root, ids)
    model.generation_config.suppress_tokens = list(ids)
    write_model(model, tokenizer, folder)
    return Written(tokens, ids, untied)


def _with_tokens(lm: LM, n: int) -> tuple[Any, tuple[str, ...], tuple[int, ...]]:
    """Return a tokenizer with n new special tokens, which its template prepends, and their ids."""
    tokenizer = copy.deepcopy(lm.tokenizer)
    known = tokenizer.get_vocab()
    free = (name for i in itertools.count() if (name := f"<|soft_{i}|>") not in known)
    tokens = tuple(itertools.islice(free, n))
    tokenizer.add_tokens(list(tokens), special_tokens=True)
    tokenizer.chat_template = "".join(tokens) + tokenizer.chat_template
    ids = tuple(tokenizer.convert_tokens_to_ids(list(tokens)))
    behind = Template(tokenizer)
    for chat in PROBES:
        if behind.encode_prompt(chat) != [*ids, *lm.encode_prompt(chat)]:
            raise EnvironmentProblem(
                Problem(
                    what="the tokenizer reads a chat differently behind new tokens, so this soft "
                    "prompt cannot be exported as a model",
                    where=lm.name,
                    found=repr(chat[-1].content),
                    fix="Export it in PEFT's format instead.",
                )
            )
    return tokenizer, tokens, ids


def _with_rows(lm: LM, root: Root, ids: tuple[int, ...]) -> tuple[Any, bool]:
    """Return the base with rows for the new tokens; all else is shared with it, not copied."""
    embedding, head = lm.sites.embedding, lm.model.get_output_embeddings()  # type: ignore[no-untyped-call]
    named = dict(lm.model.named_parameters(remove_duplicate=False))
    state = lm.model.state_dict()
    rows = max(len(lm.sites.embedding_weight), ids[-1] + 1)
    vectors = root.vectors() / _scale(lm)
    for name, tensor in named.items():
        if name.startswith(_name(lm, head)):
            state[name] = _extended(
                tensor, rows, ids, tensor[: ids[0]].mean(0, dtype=torch.float32)
            )
        elif name.startswith(_name(lm, embedding)):
            state[name] = _extended(tensor, rows, ids, vectors)
    config = copy.deepcopy(lm.model.config)
    for level in (config, config.get_text_config()):
        level.vocab_size, level.tie_word_embeddings = rows, False
    return rebuilt(lm, config, state), head.weight is embedding.weight


def _name(lm: LM, module: nn.Module) -> str:
    return next(f"{name}." for name, found in lm.model.named_modules() if found is module)


def _extended(tensor: Tensor, rows: int, ids: tuple[int, ...], values: Tensor) -> Tensor:
    """Return a copy of a table [V, ...] with `values` at the rows `ids`."""
    table = tensor.new_zeros(rows, *tensor.shape[1:])
    table[: len(tensor)] = tensor
    table[list(ids)] = values.to(table)
    return table


def _scale(lm: LM) -> float:
    """Return by what the family multiplies the rows of its table (1 in most, sqrt(D) in Gemma)."""
    table = lm.sites.embedding_weight
    longest = torch.linalg.vector_norm(table, dim=1).argmax()
    at = int(table[longest].abs().argmax())
    return float(lm.sites.embedding(longest[None])[0, at] / table[longest, at])
