"""The form of a prompt: where the instruction stands, what separates the parts, how labels are
worded, and whether worked examples are turns of a chat or one plain text.

    chat     system: instruction        plain    user: Input: x1
             user: x1                                  Output: y1
             assistant: y1
             user: x                                   Input: x
                                                       Output:

The model is the same and so are the facts it is shown; only their form differs. By default it is a
chat as the vendors' formats have it, and labels are shown as they are.

Source: Sclar et al. 2024, arXiv 2310.11324 (separators, spacing and case alone move few-shot
accuracy by up to 76 points); Brown et al. 2020, arXiv 2005.14165 (plain text); Schick and Schütze
2021, arXiv 2001.07676 (words that stand for labels: verbalizers).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from savile.types import Message

Place = Literal["system", "start", "before", "after"]
Turns = Literal["chat", "plain"]


@dataclass(frozen=True, kw_only=True)
class Format:
    """How the parts of a prompt are put into messages; plain data."""

    instruction: Place = "system"
    """`system`: a message of its own; `start`: opens the first user turn; `before` and `after`: in
    the turn of the question, on that side of it."""
    turns: Turns = "chat"
    """`chat`: each worked example is two turns; `plain`: all are text in the question's turn."""
    input_label: str = ""
    """Stands before every question, with a space; empty for nothing."""
    output_label: str = ""
    """Stands after every question, and in plain text before its answer; empty for nothing."""
    separator: str = "\n"
    """Between the parts of an example and of a turn."""
    between: str = "\n\n"
    """Between the examples of plain text."""
    words: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What is shown, and scored, in the place of a label; labels that are not named are shown as
    they are."""

    def question(self, text: str) -> str:
        """Return the turn that asks one question, without an instruction."""
        return self._lines([_labelled(self.input_label, text), self.output_label])

    def messages(
        self,
        *,
        system: str | None,
        instruction: str | None,
        shown: Sequence[tuple[str, str]],
        question: str,
    ) -> list[Message]:
        """Return the chat that asks a question.

        Args:
            system: persona or policy; always the system message.
            instruction: the task in words.
            shown: worked examples, each a question and the answer as it is written.
            question: what is asked.
        """
        place = {self.instruction: instruction or ""}
        head = "\n".join(filter(None, (system, place.get("system"))))
        asked = self._lines(
            [
                place.get("before", ""),
                _labelled(self.input_label, question),
                place.get("after", ""),
                self.output_label,
            ]
        )
        turns = self._turns(shown, asked)
        if start := place.get("start"):
            gap = self.between if self.turns == "plain" else self.separator
            turns[0] = Message(role="user", content=f"{start}{gap}{turns[0].content}")
        return [*([Message(role="system", content=head)] if head else []), *turns]

    def _turns(self, shown: Sequence[tuple[str, str]], asked: str) -> list[Message]:
        if self.turns == "plain":
            examples = [
                self._lines([_labelled(self.input_label, x), _labelled(self.output_label, y)])
                for x, y in shown
            ]
            return [Message(role="user", content=self.between.join([*examples, asked]))]
        chat = [
            message
            for x, y in shown
            for message in (
                Message(role="user", content=self.question(x)),
                Message(role="assistant", content=y),
            )
        ]
        return [*chat, Message(role="user", content=asked)]

    def _lines(self, parts: Iterable[str]) -> str:
        return self.separator.join(filter(None, parts))


def _labelled(label: str, text: str) -> str:
    return f"{label} {text}" if label else text
