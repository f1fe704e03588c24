"""What text the model sees: a `Frame` renders an example, a `Prompt` changes the frame.

A chain of prompts such as `system + few_shot + chain_of_thought` is a left-to-right fold over one
frame, so any order and any combination works without a table of pairs. The frame is plain data: it
is what `prompt.yaml` exports and what the server renders, byte for byte.
"""

from __future__ import annotations

import random
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, Protocol

from savile.prompts.base_calibration import Calibration
from savile.prompts.base_constraint import Constraint
from savile.prompts.base_format import Format
from savile.prompts.base_searched import Searched
from savile.retrieval import Retriever
from savile.types import Example, Message

DEFAULT_TRIGGER = "Let's think step by step, then give the final answer after '{marker}'."
"""Zero-shot chain of thought (Kojima et al. 2022, arXiv 2205.11916) with an extractable answer."""
DEFAULT_MARKER = "Answer:"


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Everything that turns an example into messages, a target and back from a text to an
    answer."""

    instruction: str | None = None
    """The task in words; every technique shows it once, at the start or where `format` says."""
    variants: tuple[str, ...] = ()
    """Other wordings of `instruction`, for the techniques that search."""
    system: str | None = None
    """Persona, policy or style; shown when the `system` prompt is part of the technique."""
    use_system: bool = False
    demonstrations: tuple[Example, ...] = ()
    """Worked examples shown before every question, in this order."""
    retriever: Retriever | None = None
    """What finds worked examples for each question, shown after `demonstrations`."""
    reasoning: bool = False
    """Whether answers are written as steps, then `answer_marker`, then the answer."""
    trigger: str | None = None
    """What asks for steps; None is `DEFAULT_TRIGGER` with the marker."""
    answer_marker: str = DEFAULT_MARKER
    labels: tuple[str, ...] = ()
    """The closed set of answers; empty for free text."""
    format: Format = field(default_factory=Format)
    """Where the parts stand, what separates them, and how labels are worded."""
    searched: Searched | None = None
    """What a search over prompts tried, where one made this frame."""
    calibration: Calibration | None = None
    """By what prompts without content the scores of labels are calibrated."""
    length_normalized: bool = False
    """Whether labels are scored by their mean log-probability a token, not by the sum."""
    stop: tuple[str, ...] = ()
    """Texts before which a written answer ends."""
    json_schema: str | None = None
    """The schema of written answers as JSON; enforced by `constraint` alone."""
    regex: str | None = None
    """What written answers match; enforced by `constraint` alone."""
    constraint: Constraint | None = None
    """What written answers are held to, token by token."""
    samples: int = 1
    """Answers that are drawn for each question; the answer of most of them is taken."""
    temperature: float = 0.0
    """Of the drawing; 0 is greedy."""
    top_p: float = 1.0
    """How much of the odds the tokens cover that are drawn from."""
    seed: int = 0
    """Of the drawing."""

    def messages(self, example: Example) -> list[Message]:
        """Return the chat that asks for `example`'s answer, demonstrations first."""
        return self.format.messages(
            system=self.system if self.use_system else None,
            instruction=self.instruction,
            shown=[(self._asked(row), self.target(row)) for row in self.shown(example)],
            question=self._asked(example),
        )

    def neutral(self, example: Example) -> tuple[tuple[Message, ...], ...]:
        """Return the chats without content that the prompt of `example` is calibrated by: the same
        for all where the same worked examples are shown to all, none without a calibration."""
        if self.calibration is None:
            return ()
        shown = self.shown(example) if self.calibration.examples else ()
        frame = replace(self, demonstrations=shown, retriever=None)
        empty = (replace(example, input=text) for text in self.calibration.inputs)
        return tuple(tuple(frame.messages(one)) for one in empty)

    def shown(self, example: Example) -> tuple[Example, ...]:
        """Return the worked examples before the question of `example`; it is never among those that
        were found for it."""
        found = () if self.retriever is None else self.retriever.shown(example.input)
        return (*self.demonstrations, *found)

    @property
    def examples(self) -> tuple[Example, ...]:
        """Every row that some question may be shown."""
        return (*self.demonstrations, *(() if self.retriever is None else self.retriever.pool))

    def longest(self) -> Frame:
        """Return the frame whose prompts are the longest that this one can write, for estimates:
        the longest rows of the pool stand before every question."""
        if self.retriever is None:
            return self
        pool = sorted(self.retriever.pool, key=lambda row: -len(self._turns(row)))
        shown = (*self.demonstrations, *pool[: self.retriever.k])
        return replace(self, demonstrations=shown, retriever=None)

    def portable(self) -> Frame:
        """Return the frame without the neighbors of single questions and what was to be searched:
        what a file keeps."""
        retriever = None if self.retriever is None else replace(self.retriever, near={})
        return replace(self, retriever=retriever, variants=())

    def _turns(self, row: Example) -> bytes:
        return (self.question(row) + self.target(row)).encode()

    def question(self, example: Example) -> str:
        """Return what asks one example, with the reasoning trigger where one is used, without the
        instruction."""
        return self.format.question(self._asked(example))

    def _asked(self, example: Example) -> str:
        if not self.reasoning:
            return example.input
        trigger = self.trigger or DEFAULT_TRIGGER.format(marker=self.answer_marker)
        return f"{example.input}\n{trigger}"

    def target(self, example: Example) -> str:
        """Return the assistant turn to learn or to show: the answer, or steps and the answer."""
        answer = self.worded(example.output)
        if not self.reasoning:
            return answer
        steps = (example.rationale or "").strip()
        return f"{steps} {self.answer_marker} {answer}".strip()

    @property
    def closed(self) -> bool:
        """Whether answers are chosen from labels rather than written."""
        return bool(self.labels) and not self.reasoning

    @property
    def label_words(self) -> tuple[str, ...]:
        """The labels as they are shown and scored, in their order."""
        return tuple(map(self.worded, self.labels))

    def worded(self, answer: str) -> str:
        """Return an answer as it is shown."""
        return self.format.words.get(answer, answer)

    def meant(self, written: str) -> str:
        """Return the label that a written answer stands for, itself where it is none of them; words
        may differ in case, spaces or a final period."""
        both = list(zip(self.labels, self.label_words, strict=True))
        exact = [label for label, word in both if word == written]
        near = exact or [label for label, word in both if folded(word) == folded(written)]
        return near[0] if len(near) == 1 and self.format.words else written

    def shows_target(self, example: Example) -> bool:
        """Return whether an example has all that its target is made of: its steps, if any."""
        return not self.reasoning or bool((example.rationale or "").strip())

    def parse(self, text: str) -> str | None:
        """Return the answer inside a generated text, None when there is none.

        With reasoning, what follows the last marker (case-insensitive); else the text itself.
        """
        return self.read(text)[1]

    def read(self, text: str) -> tuple[str, str | None]:
        """Return the steps of a generated text and its answer, as `parse` finds it."""
        if not self.reasoning:
            return "", self.meant(text.strip()) or None
        marks = list(re.finditer(re.escape(self.answer_marker), text, re.IGNORECASE))
        if not marks:
            return text.strip(), None
        answer = self.meant(text[marks[-1].end() :].strip())
        return text[: marks[-1].start()].strip(), answer or None


def folded(answer: str) -> str:
    """Return what is equal for answers that differ in case, spaces or a final period alone."""
    return " ".join(answer.casefold().split()).rstrip(" .")


class Proposals(NamedTuple):
    """What a model wrote when it was asked for instructions."""

    texts: list[str]
    by: str
    """Its name."""
    usd: float | None
    """What that cost at an endpoint; None where requests have no price."""


class Model(Protocol):
    """The base, as a prompt may ask it while it is fitted."""

    def answers(
        self, chats: Sequence[Sequence[Message]], *, max_new_tokens: int, stop: Sequence[str] = ()
    ) -> list[str]:
        """Return the greedy answer to each chat, cut after `max_new_tokens` tokens and before the
        texts of `stop`."""

    def logprobs(self, chats: Sequence[Sequence[Message]], answers: Sequence[str]) -> list[float]:
        """Return the log-probability of each answer and its end after its chat, nats; needs
        `weights`."""

    def probabilities(self, frame: Frame, rows: Sequence[Example]) -> list[float]:
        """Return how likely the wanted answer of each row is under a frame: among the labels of a
        closed set, else per token (the geometric mean); 0 beyond the context; needs `weights`."""

    def proposals(
        self,
        chat: Sequence[Message],
        n: int,
        *,
        shown: Sequence[Example],
        seed: int,
        max_new_tokens: int,
    ) -> Proposals:
        """Return `n` answers, drawn at temperature 1, of the model that proposes: the base itself
        where there is no other. `shown` are the rows whose labels the chat shows."""


def fold(
    prompts: Sequence[Prompt],
    frame: Frame,
    train: Sequence[Example],
    seed: int,
    model: Model | None = None,
) -> Frame:
    """Return a task's frame changed by one prompt after the other; each draws from a generator of
    its own.

    Args:
        prompts: the chain.
        frame: the task's words.
        train: rows that may be shown.
        seed: of everything that is drawn.
        model: the base; None where only the size of the prompt matters (estimates).
    """
    for prompt in prompts:
        rng = random.Random(f"{seed}:{type(prompt).__name__}")
        frame = prompt.fit(frame, train, rng, model)
    return frame


def pool_of(train: Sequence[Example]) -> tuple[Example, ...]:
    """Return the rows that may be shown, in an order that does not depend on the file's."""
    return tuple(sorted(train, key=lambda row: row.id))


class Prompt(ABC):
    """A way of writing the prompt. Implementations are final, frozen, keyword-only dataclasses."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "use_attribute_docstrings": True,
    }
    needs: ClassVar[tuple[str, ...]] = ()
    """What the data must give: `pairs`, `rationales`, `system`, `labels`."""
    replaces: ClassVar[Mapping[str, str]] = {}
    """A need of the other parts that this one turns into another (`pairs` into `rationales`)."""
    occupies: ClassVar[tuple[str, ...]] = ()
    """What no other prompt of the chain may choose too (`examples`)."""
    stochastic: ClassVar[bool] = False
    """Whether the seed changes the prompt."""
    encoders: ClassVar[tuple[str, ...]] = ()
    """Settings that name a sentence encoder, whose files are part of what a run is."""
    decides: ClassVar[tuple[str, ...]] = ()
    """Fields of an endpoint's request that it sets; `base.request` may not set them otherwise."""

    def asks(self, n_train: int) -> int:
        """Return how many answers of the base fitting takes at most, with `n_train` rows."""
        return 0

    @abstractmethod
    def fit(
        self,
        frame: Frame,
        train: Sequence[Example],
        rng: random.Random,
        model: Model | None = None,
    ) -> Frame:
        """Return the frame changed by this prompt.

        Args:
            frame: what the prompts before it made.
            train: the only data it may look at.
            rng: the only chance it may use.
            model: the base; None in estimates, where the frame is as large as it can become.
        """
