"""Savile's own folder: the trained tensors of any delta, for the base they were trained on.

It holds what no other format has a place for: bottleneck adapters, biases of a base that has none,
deltas that were trained together. Everything that training needs to go on is in it, the encoder of
a soft prompt included.

Cost: the bytes of the trial's weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, final

import safetensors.torch

from savile import store
from savile.errors import IntegrityError, Problem
from savile.export.base import NOTHING_TRAINED, Customization, Form, Holds, Opened, Where
from savile.lm import folder as files
from savile.technique import build

WEIGHTS: Final = "delta.safetensors"


@final
@dataclass(frozen=True, kw_only=True)
class Savile(Form):
    """The delta in Savile's format."""

    rank: ClassVar[int] = 3
    holds: ClassVar[Holds] = "adapter"

    def refusal(self, made: Customization) -> str | None:
        """Return None for everything that is trained."""
        return NOTHING_TRAINED if made.attached is None else None

    def write(self, made: Customization, folder: Path) -> None:
        """Write the state of the delta."""
        assert made.attached is not None
        state = {name: tensor.contiguous() for name, tensor in made.attached.state().items()}
        store.write_atomic(folder / WEIGHTS, safetensors.torch.save(state))

    @contextmanager
    def opened(self, folder: Path, made: Customization, where: Where) -> Iterator[Opened]:
        """Attach the delta to the base."""
        assert made.lm is not None
        delta = build(made.candidate, made.frame).delta
        if delta is None:
            what = "its description names no delta for these weights"
            raise IntegrityError(Problem(where=str(folder), what=what))
        files.check_safetensors(folder / WEIGHTS)
        with delta.attach(made.lm, 0) as attached:
            attached.load(safetensors.torch.load((folder / WEIGHTS).read_bytes()))
            yield Opened(made.lm, made.lm.template)

    def to_load(self, base: str) -> str:
        """Return the lines for Savile."""
        return f'import savile\n\nmodel = savile.load_customized(".", base={base})'
