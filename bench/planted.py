"""Judges whose ways are known, to hold the figures of a judge against: each is a rule on a prompt.

They read the prompt of `savile.judge.question` as a model would, so what is recovered went through
the whole of asking, both orders and reading.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple, final

from savile.judge.made import INSTRUCTIONS, MADE
from savile.lm.base import Answer, Answers, Asked, Base, Chat

Rule = Callable[[str], str]
"""From the last message of a prompt to a reply."""
SHOWN: Final = re.compile(
    r"<question (\w+)>\n(.*?)\n</question \1>.*<answer A \1>\n(.*?)\n</answer A \1>.*"
    r"<answer B \1>\n(.*?)\n</answer B \1>",
    re.DOTALL,
)
KNOWN: Final = {question: right for question, right, _ in MADE}


class Shown(NamedTuple):
    """What a prompt shows."""

    question: str
    first: str
    second: str


def shown(prompt: str) -> Shown:
    """Return the question and both answers of a prompt."""
    found = SHOWN.search(prompt)
    assert found is not None, "not a prompt of a judge"
    return Shown(*found.groups()[1:])


def first(prompt: str) -> str:
    """Prefer what stands first."""
    shown(prompt)
    return "A"


def longer(prompt: str) -> str:
    """Prefer the longer answer."""
    found = shown(prompt)
    if len(found.first) == len(found.second):
        return "tie"
    return "A" if len(found.first) > len(found.second) else "B"


def knowing(right: Mapping[str, str] = KNOWN) -> Rule:
    """Return the rule that prefers the right answer to a question."""

    def rule(prompt: str) -> str:
        found = shown(prompt)
        a, b = (text == right[found.question] for text in found[1:])
        return "tie" if a == b else "A" if a else "B"

    return rule


def obeying(otherwise: Rule) -> Rule:
    """Return the rule that does what an answer tells it, else as `otherwise` says."""

    def rule(prompt: str) -> str:
        found = shown(prompt)
        a, b = (any(told in text for told in INSTRUCTIONS.values()) for text in found[1:])
        return otherwise(prompt) if a == b else "A" if a else "B"

    return rule


def sometimes(rate: float, rule: Rule, otherwise: Rule) -> Rule:
    """Return the rule that is `rule` for a share of the prompts, the same ones every time."""

    def either(prompt: str) -> str:
        digest = hashlib.sha256(prompt.encode()).digest()
        chance = int.from_bytes(digest[:4], "big") / 2**32
        return (rule if chance < rate else otherwise)(prompt)

    return either


def second(prompt: str) -> str:
    """Prefer what stands second."""
    shown(prompt)
    return "B"


COIN: Final = sometimes(0.5, first, second)
"""Prefers either, by the hash of the prompt."""


@final
class Planted(Base):
    """A base that answers by a rule."""

    gives: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, name: str, rule: Rule) -> None:
        """Answer as `rule` says."""
        self.name, self.rule = name, rule
        self.device, self.context, self.note = "cpu", None, None

    def prompt_tokens(self, chat: Chat) -> int:
        """Return the words of a chat."""
        return sum(len(message.content.split()) for message in chat)

    def answer_tokens(self, text: str) -> int:
        """Return the words of an answer."""
        return len(text.split())

    def answers(self, chats: Sequence[Chat], asked: Asked) -> Answers:
        """Yield every answer in its turn."""
        for number, chat in enumerate(chats):
            said = self.rule(chat[-1].content)
            label = said if said in asked.labels else None
            yield [(number, Answer(said, label, self.prompt_tokens(chat), 1))]

    def tally(self) -> Mapping[str, Any]:
        """Return nothing: no request is made."""
        return {}
