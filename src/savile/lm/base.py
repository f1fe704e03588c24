"""What the ladder asks of a base, wherever its weights are: answers to chats, lengths of texts.

Two kinds meet it: `local.Local` has the weights here, `endpoint.Endpoint` reaches a model behind an
API. What only one of them can do is no method here but a word in `gives`: a technique that trains
needs `weights`, so on a base behind an API it is a row with its reason and not an error.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from savile.types import Message

Chat = Sequence[Message]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How the chats of one call are to be answered."""

    labels: tuple[str, ...] = ()
    """The answers to choose from; empty: the answer is written freely."""
    max_new_tokens: int = 128
    """Where a written answer is cut."""


class Answer(NamedTuple):
    """The answer to one chat."""

    text: str
    """What the model wrote, or the label it chose."""
    label: str | None
    """The chosen label; None where none was asked for, or none could be read."""
    prompt_tokens: int
    completion_tokens: int
    seconds: float | None = None
    """What the request took; None where many are answered together."""
    usd: float | None = None
    """What the request cost; None where requests have no price."""


Answers = Generator[Sequence[tuple[int, Answer]], None, None]
"""Groups of (number of the chat, its answer) as they are ready, each chat once, in any order. A
group may be empty while a base waits; closing the generator stops what has not begun."""


class Base(ABC):
    """A model that answers chats."""

    gives: ClassVar[frozenset[str]]
    """What a technique may need of it: `weights`."""
    name: str
    """What the board calls it."""
    device: str
    """Where this machine computes (`cpu`, `cuda:0`)."""
    context: int | None
    """The longest prompt and answer in tokens; None where only the base itself knows."""
    note: str | None = None
    """What to know about every row it answered."""

    @property
    def n_parameters(self) -> int:
        """Parameters; 0 where nobody says."""
        return 0

    @abstractmethod
    def prompt_tokens(self, chat: Chat) -> int:
        """Return the tokens of a chat; at most so many where only the base itself can count."""

    @abstractmethod
    def answer_tokens(self, text: str) -> int:
        """Return the tokens of an answer with its end; at most so many, likewise."""

    @abstractmethod
    def answers(self, chats: Sequence[Chat], asked: Asked) -> Answers:
        """Yield the answers to `chats`."""

    @abstractmethod
    def tally(self) -> Mapping[str, Any]:
        """Return what answering took since the last call, for the record of a run; JSON values."""
