"""PEFT's adapter folder: adapter_config.json, adapter_model.safetensors, tokenizer and template.

PEFT and the servers that take its adapters load it on the plain base. Soft prompts and prefixes are
written as the vectors they are: the encoder or projection that computed them is dropped. PiSSA is
written as PEFT converts it, as LoRA of twice the rank, so that the base stays as it is.

Cost: the bytes of what was trained.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, final

import safetensors.torch
from torch import Tensor

from savile import registry, store
from savile.deltas.base import Delta, Peft
from savile.errors import IntegrityError, Problem
from savile.export.base import NOTHING_TRAINED, Customization, Form, Holds, Opened, Where
from savile.lm import folder as files
from savile.lm.load import quiet, tokenizer_of
from savile.lm.template import Template

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"


@final
@dataclass(frozen=True, kw_only=True)
class PeftAdapter(Form):
    """An adapter in PEFT's format."""

    rank: ClassVar[int] = 1
    holds: ClassVar[Holds] = "adapter"
    library: ClassVar[str] = "peft"

    def refusal(self, made: Customization) -> str | None:
        """Return None for what PEFT has a method for."""
        if made.lm is None or made.attached is None:
            return NOTHING_TRAINED
        return None if made.attached.to_peft() is not None else "PEFT has no method for it"

    def write(self, made: Customization, folder: Path) -> None:
        """Write the adapter and the tokenizer it was trained with."""
        assert made.lm is not None
        assert made.attached is not None
        peft = made.attached.to_peft()
        assert peft is not None
        store.write_json(folder / CONFIG, peft.config)
        store.write_atomic(folder / WEIGHTS, peft.blob())
        with quiet():
            made.lm.tokenizer.save_pretrained(folder)

    @contextmanager
    def opened(self, folder: Path, made: Customization, where: Where) -> Iterator[Opened]:
        """Attach the adapter to the base."""
        assert made.lm is not None
        delta, state = _read(folder)
        template = Template(tokenizer_of(folder))
        with delta.attach(made.lm, 0) as attached:
            attached.load(state)
            yield Opened(made.lm, template)

    def to_load(self, base: str) -> str:
        """Return the lines for PEFT."""
        return (
            "from peft import PeftModel\n"
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f"base = AutoModelForCausalLM.from_pretrained({base})\n"
            'model = PeftModel.from_pretrained(base, ".")\n'
            'tokenizer = AutoTokenizer.from_pretrained(".")'
        )


def _read(folder: Path) -> tuple[Delta, dict[str, Tensor]]:
    files.check_safetensors(folder / WEIGHTS)
    config = json.loads((folder / CONFIG).read_bytes())
    peft = Peft(config, safetensors.torch.load((folder / WEIGHTS).read_bytes()))
    for name in registry.parts("deltas"):
        kind: type[Delta] = registry.load("deltas", name)
        if (found := kind.from_peft(peft)) is not None:
            return found
    raise IntegrityError(
        Problem(
            where=str(folder / CONFIG),
            what="no technique of Savile's reads this adapter",
            found=str(config.get("peft_type")),
        )
    )
