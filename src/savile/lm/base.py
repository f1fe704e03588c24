"""What the ladder asks of a base, wherever its weights are: answers to chats, lengths of texts.

Answers are the likeliest (greedy), or several are drawn for each chat:

    p'(token) ~ p(token)^(1/temperature) over the fewest likeliest tokens whose p' reach top_p

Source: nucleus sampling: Holtzman et al. 2019, arXiv 1904.09751. The draws of a sample follow from
the seed, its chat and its number alone: neither other chats nor other samples change them, and the
first three of nine samples are the three samples of the same chat and seed.

Two kinds meet it: `local.Local` has the weights here, `endpoint.Endpoint` reaches a model behind an
API. What only one of them can do is no method here but a word in `gives`: a technique that trains
needs `weights`, so on a base behind an API it is a row with its reason and not an error.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from savile import store
from savile.prompts.base_constraint import Constraint
from savile.types import Message

Chat = Sequence[Message]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How the chats of one call are to be answered."""

    labels: tuple[str, ...] = ()
    """The answers to choose from; empty: the answer is written freely."""
    neutral: tuple[tuple[Chat, ...], ...] = ()
    """For each chat those without content that its labels are calibrated by; empty: they are not.
    Needs `weights`."""
    length_normalized: bool = False
    """Whether labels are scored by their mean log-probability a token; needs `weights`."""
    max_new_tokens: int = 128
    """Where a written answer is cut."""
    stop: tuple[str, ...] = ()
    """Texts before which a written answer ends, none of them empty."""
    constraint: Constraint | None = None
    """The shape of a written answer; needs `weights`, a JSON schema no more than `json_replies`."""
    n: int = 1
    """Answers to each chat."""
    temperature: float = 0.0
    """Of the drawing; 0 is greedy."""
    top_p: float = 1.0
    """How much of the odds the tokens cover that are drawn from."""
    seed: int = 0
    """Of the drawing."""

    def __post_init__(self) -> None:
        if self.n < 1 or self.temperature < 0.0 or not 0.0 < self.top_p <= 1.0:
            raise ValueError("'n' should be 1 or more, 'temperature' 0 or more, 'top_p' in (0, 1]")
        if self.n > 1 and self.temperature == 0.0:
            raise ValueError("at temperature 0 all samples of a chat are equal: ask for one")
        if "" in self.stop:
            raise ValueError("an empty stop string would end every answer before it begins")


class Answer(NamedTuple):
    """The answer to one chat."""

    text: str
    """What the model wrote, or the label it chose."""
    label: str | None
    """The chosen label; None where none was asked for, or none could be read."""
    prompt_tokens: int
    """Tokens of the prompt; 0 for a sample that shares it with the one before."""
    completion_tokens: int
    seconds: float | None = None
    """What the request took, 0 for a sample that shares it; None where many are answered
    together."""
    usd: float | None = None
    """What the request cost; None where requests have no price."""


Answers = Generator[Sequence[tuple[int, Answer]], None, None]
"""Groups of (number of the chat, its answer) as they are ready. Each chat comes `n` times, its
samples in their order and in one group; chats come in any order. A group may be empty while a base
waits; closing the generator stops what has not begun."""


def seed_of(seed: int, chat: Chat, sample: int) -> int:
    """Return the seed of one sample: 31 bits, which every server takes."""
    said = [[message.role, message.content] for message in chat]
    return int(store.sha256(store.dump_json([seed, said, sample]))[:8], 16) >> 1


def before(text: str, stop: Sequence[str]) -> str:
    """Return a text up to the stop string that is complete first, all of it without one.

    Example: before("ab. cd", (". ", "b")) == "a"
    """
    found = [(at + len(one), at) for one in stop if (at := text.find(one)) >= 0]
    return text[: min(found)[1]] if found else text


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
