"""`savile.load_customized`: an exported folder of any form writes messages and answers again.

Weights that belong on a base are put on that base alone: its sha256 is compared first.

Cost: loading the base, or the model that the folder holds, when it is opened; that of a prompt only
when it is asked for answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

from savile import registry
from savile.errors import IntegrityError, Problem
from savile.export import prompt
from savile.export.base import Customization, Form, Where
from savile.handover import facts as facts_file
from savile.handover.facts import Facts
from savile.ladder import bases
from savile.ladder.answer import refuse_long
from savile.ladder.neighbors import Neighbors
from savile.ladder.trial import answers_of
from savile.lm.base import Base
from savile.lm.local import Local
from savile.prompts.base import Frame
from savile.spec.model import ComputeSection
from savile.types import Example, Message, Prediction


def load_customized(
    folder: Path | str, base: Path | str | None = None, *, device: str = "auto"
) -> Handed:
    """Open a folder that `savile export` wrote.

    Args:
        folder: of any form.
        base: folder or name of the base; None takes the name that the run had for it.
        device: where it computes; `auto` takes CUDA when there is one.

    Raises:
        UsageError: no such folder, or a prompt.yaml that cannot be read.
        EnvironmentProblem: the base is not here; or, when it is asked, a sentence encoder, whose
            relative folder starts at the exported one.
        IntegrityError: another base than the one that was trained on, or damaged files.
    """
    return Handed(Path(folder), None if base is None else str(base), device)


class Handed:
    """A customized model as it was handed over."""

    def __init__(self, folder: Path, base: str | None = None, device: str = "auto") -> None:
        """Open the folder; see `load_customized`."""
        self.facts: Facts = facts_file.read(folder)
        """What is known of it: form, technique, base, what was measured and checked."""
        self.frame: Frame = prompt.read(folder)
        """Its prompt, from prompt.yaml."""
        self._folder, self._named, self._device = folder, base, device
        self._form = _form(self.facts.form, folder)
        self._neighbors, self._open = Neighbors(folder=folder), ExitStack()
        if self._form.holds != "prompt":
            _ = self._base

    @property
    def technique(self) -> str:
        """Its name on the board."""
        return self.facts.candidate.name

    def messages(self, question: str) -> list[dict[str, str]]:
        """Return the chat that asks a question, as every chat API takes it."""
        row = Example(id="question", input=question, output="")
        turns: list[Message] = self._located([row]).messages(row)
        return [{"role": turn.role, "content": turn.content} for turn in turns]

    def predict(self, inputs: Sequence[str]) -> list[str | None]:
        """Return one answer per input; None where none could be read out of the model's text.

        Raises:
            UsageError: an input is longer than the model's context.
        """
        return [prediction.answer for prediction in self.predictions(inputs)]

    def predictions(self, inputs: Sequence[str]) -> list[Prediction]:
        """Return the answers with the raw texts and token counts."""
        rows = [Example(id=str(i), input=text, output="") for i, text in enumerate(inputs)]
        base, frame = self._base, self._located(rows)
        with self._attached(base) as ready:
            refuse_long(ready, frame, rows)
            return answers_of(ready, frame, rows, self.facts.max_new_tokens)

    def _located(self, rows: Sequence[Example]) -> Frame:
        retriever = self.frame.retriever
        if retriever is None or not retriever.embedder:
            return self.frame
        return self._neighbors.located(self._base, self.frame, rows)

    def _made(self, base: Base | None) -> Customization:
        return Customization(
            candidate=self.facts.candidate,
            frame=self.frame,
            max_new_tokens=self.facts.max_new_tokens,
            example=Example(id="question", input="", output=""),
            lm=base.lm if isinstance(base, Local) else None,
        )

    @property
    def _where(self) -> Where:
        return Where(self._device, self.facts.base.dtype or "auto")

    @cached_property
    def _base(self) -> Base:
        """The plain base, or the whole model of a folder that holds one."""
        own = self.facts.base
        if self._form.holds == "model":
            opened = self._form.opened(self._folder, self._made(None), self._where)
            return Local(self._open.enter_context(opened).lm)
        named = bases.from_json(own.spec if self._named is None else self._named)
        if self._form.holds == "adapter" and bases.identity(named, Path()) != own.sha256:
            raise IntegrityError(
                Problem(
                    where=str(self._folder),
                    what="its weights belong on another base",
                    found=f"{bases.name_of(named)}, sha256 {bases.identity(named, Path())}",
                    expected=f"{own.name}, sha256 {own.sha256}",
                    fix="Name the base it was trained on with `base`",
                )
            )
        compute = {"device": self._device, "dtype": own.dtype, "quantization": own.quantization}
        section = {name: value for name, value in compute.items() if value is not None}
        return bases.open_base(named, Path(), ComputeSection.model_validate(section))

    @contextmanager
    def _attached(self, base: Base) -> Iterator[Base]:
        """Put the folder's weights on the base while the block runs."""
        if self._form.holds != "adapter":
            yield base
            return
        with self._form.opened(self._folder, self._made(base), self._where) as opened:
            yield Local(opened.lm)


def _form(name: str, folder: Path) -> Form:
    if name not in registry.parts("export"):
        what = f"is in a form this version does not know: {name!r}"
        raise IntegrityError(Problem(where=str(folder), what=what))
    form: Form = registry.load("export", name)()
    return form
