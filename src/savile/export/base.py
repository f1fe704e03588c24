"""What a customized model can be handed over as: a `Form` writes a folder and opens it again.

A form is one file of `export/`, found by its name like every part. It says whether it can hold a
technique, writes it, and opens what it wrote as its users will: so every export is read back and
compared with what was measured before it is handed over.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, NamedTuple

import torch
from torch import Tensor
from transformers import GenerationConfig

from savile import store
from savile.deltas.base import Attached
from savile.lm import load
from savile.lm.load import quiet
from savile.lm.model import LM
from savile.lm.template import Template
from savile.prompts.base import Frame
from savile.retrieval import BASE
from savile.spec import Candidate
from savile.types import Example

GENERATION: Final = "generation_config.json"
NOTHING_TRAINED: Final = "nothing of it is trained"
"""Why a form that holds weights cannot hold a prompt."""

Holds = Literal["adapter", "model", "prompt"]


@dataclass(frozen=True, kw_only=True)
class Customization:
    """One measured technique."""

    candidate: Candidate
    frame: Frame
    """Its prompt."""
    max_new_tokens: int
    """Where its answers are cut."""
    example: Example
    """A question to show the prompt by."""
    lm: LM | None
    """The base; None where nothing of it is needed, as for a prompt."""
    attached: Attached | None = None
    """The trained delta on the base while it is written; None for a prompt, and for opening."""


class Where(NamedTuple):
    """Where and in which type a whole model computes."""

    device: str
    dtype: str
    """`float32`, `bfloat16`, or `auto`."""


class Opened(NamedTuple):
    """What a folder holds, as its users get it."""

    lm: LM
    template: Template
    """What turns chats into tokens, from the folder's own tokenizer where it has one."""


class Form(ABC):
    """A format of exported files. Implementations are final, frozen dataclasses."""

    rank: ClassVar[int]
    """The form of the lowest rank that can hold a technique is taken where none is asked for."""
    holds: ClassVar[Holds]
    """An `adapter` fits only the base it was trained on; a `model` and a `prompt` need none."""
    library: ClassVar[str] = "savile"
    """What loads it, in the words of a model card."""

    @abstractmethod
    def refusal(self, made: Customization) -> str | None:
        """Return why this form cannot hold a technique, None where it can.

        A trained delta may be merged into the base by this, until it is detached.
        """

    @abstractmethod
    def write(self, made: Customization, folder: Path) -> None:
        """Write the files into an existing folder; `refusal` was asked and gave None."""

    @abstractmethod
    def opened(
        self, folder: Path, made: Customization, where: Where
    ) -> AbstractContextManager[Opened]:
        """Give the model of a folder inside the context.

        Args:
            folder: as it was written.
            made: the technique and the plain base, nothing attached; no base where the files hold
                the whole model.
            where: for a whole model; the rest is where the base is.

        Raises:
            IntegrityError: the files are damaged, or no such technique on this base.
        """

    @abstractmethod
    def to_load(self, base: str) -> str:
        """Return the Python lines that load the folder, which is the working directory.

        Args:
            base: an expression for the base's folder or id.
        """


class PlainModel(Form):
    """A form that is an ordinary transformers folder, the technique in its weights."""

    holds: ClassVar[Holds] = "model"
    library: ClassVar[str] = "transformers"

    @contextmanager
    def opened(self, folder: Path, made: Customization, where: Where) -> Iterator[Opened]:
        """Load the folder as any other base."""
        found = load.load(
            str(folder.resolve()), folder=folder, device=where.device, dtype=where.dtype
        )
        yield Opened(found, found.template)

    def to_load(self, base: str) -> str:
        """Return the lines for transformers."""
        return (
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'model = AutoModelForCausalLM.from_pretrained(".")\n'
            'tokenizer = AutoTokenizer.from_pretrained(".")'
        )


def rebuilt(lm: LM, config: Any, state: Mapping[str, Tensor]) -> Any:
    """Return a model of the base's class around other tensors, which it shares."""
    with torch.device("meta"):
        model = type(lm.model)(config)
    model.load_state_dict(state, assign=True)
    model.generation_config = generation_config(lm)
    return model


def generation_config(lm: LM) -> Any:
    """Return a copy of the base's, which also ends at the token that ends an assistant's turn."""
    config = copy.deepcopy(lm.model.generation_config)
    known = config.eos_token_id
    ends = [] if known is None else known if isinstance(known, list) else [known]
    if lm.template.end not in ends:
        config.eos_token_id = [*ends, lm.template.end]
    return config


def write_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write an ordinary transformers folder with its tokenizer and chat template.

    The generation configuration is written as it is: transformers refuses to save some that it
    loads, such as a temperature beside `do_sample: false`.
    """
    empty = GenerationConfig()  # type: ignore[no-untyped-call]
    settings, model.generation_config = model.generation_config, empty
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    store.write_atomic(folder / GENERATION, settings.to_json_string().encode("utf-8"))


def of_plain_weights(made: Customization) -> str | None:
    """Return why a technique cannot be an ordinary model for a reason of its base or its prompt."""
    if made.lm is None or made.attached is None:
        return NOTHING_TRAINED
    if made.lm.quantization is not None:
        return f"its base is quantized to {made.lm.quantization}"
    retriever = made.frame.retriever
    if retriever is not None and retriever.embedder == BASE:
        return "its worked examples are found by the states of the plain base"
    return None
