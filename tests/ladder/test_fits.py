"""A prompt fits a base's context when its longest possible answer does."""

from __future__ import annotations

from dataclasses import replace

from savile.ladder.fits import does_not_fit
from savile.lm.local import Local
from savile.prompts.base import Frame
from savile.prompts.base_format import Format
from savile.types import Example
from tests import tiny

LONG = "not at all, and for many a reason that would have to be told"
FRAME = Frame(instruction="Say.", labels=("no", LONG))


def test_the_longest_label_counts_whatever_the_row_s_own_is() -> None:
    """Every label is scored after every prompt, so one that is wanted short needs as much room."""
    base = Local(tiny.lm("llama"))
    assert base.context is not None
    free = Example(id="1", input="", output="no")
    room = base.context - base.prompt_tokens(FRAME.messages(free)) - base.answer_tokens("no")
    tight = replace(free, input="x" * room)  # a byte is a token here
    written = replace(FRAME, labels=())
    used = base.prompt_tokens(FRAME.messages(tight)) + base.answer_tokens("no")
    assert used == base.context
    assert does_not_fit(base, written, [tight]) is None
    for row in (tight, replace(tight, output=LONG)):
        need = base.prompt_tokens(FRAME.messages(row)) + base.answer_tokens(LONG)
        said = f"prompt and answer need {need:,} tokens, the model's context is {base.context}"
        assert does_not_fit(base, FRAME, [row]) == said
    shorter = replace(FRAME, format=Format(words={LONG: "yes"}))
    assert does_not_fit(base, replace(shorter, labels=("no", LONG)), [free]) is None


def test_steps_are_written_and_no_label_is_scored() -> None:
    base = Local(tiny.lm("llama"))
    row = Example(id="1", input="why?", output="no", rationale="so")
    assert does_not_fit(base, replace(FRAME, reasoning=True), [row]) is None
