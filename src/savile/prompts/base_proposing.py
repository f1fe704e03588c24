"""Instructions that a model writes for a task, from worked examples and the instruction so far.

    proposal_i ~ p(instruction | some (x, y), the given instruction),  temperature 1

Source: Zhou et al. 2023, arXiv 2211.01910, section 3.1 (forward generation of instructions from
input-output pairs); Yang et al. 2024, arXiv 2309.03409 (the present prompt among what is shown).
What differs: one round, and no scores of earlier prompts are shown. Rows that the model reads judge
no prompt: an instruction may hold their answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from savile.prompts.base import Frame
from savile.types import Example, Message

READ: Final = 8
"""Training rows that the model reads."""
MOST_TOKENS: Final = 160
"""Where what it writes is cut."""
MOST_LETTERS: Final = 800
"""Longer ones are no candidates."""
SYSTEM: Final = "You write instructions for language models."
ASKED: Final = (
    "Here are inputs of a task, each with the output that is wanted.\n\n{examples}\n\n{present}"
    "Write one instruction that makes a model give these outputs. Name no single input. Reply with "
    "the instruction alone, in one paragraph."
)
PRESENT: Final = "The instruction now is: {instruction}\n\n"


def asked(frame: Frame, rows: Sequence[Example]) -> list[Message]:
    """Return the chat that asks for an instruction.

    Args:
        frame: of the task.
        rows: training rows to read.
    """
    examples = "\n\n".join(f"Input: {row.input}\nOutput: {frame.target(row)}" for row in rows)
    present = PRESENT.format(instruction=frame.instruction) if frame.instruction else ""
    content = ASKED.format(examples=examples, present=present)
    return [Message(role="system", content=SYSTEM), Message(role="user", content=content)]


def wordings(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the instructions in what was written, each once, without quotes around them; what is
    empty or too long is none.

    Example: wordings(['"Sort."', "Sort.\n\nI hope it helps.", ""]) == ("Sort.",)
    """
    first = (text.strip().split("\n\n")[0].strip().strip("\"'`").strip() for text in texts)
    return tuple(dict.fromkeys(text for text in first if 0 < len(text) <= MOST_LETTERS))
