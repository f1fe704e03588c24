"""Whether prompts and their answers fit a base's context, before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from savile.lm.base import Base
from savile.predict import closed
from savile.prompts.base import Frame
from savile.types import Example


def does_not_fit(base: Base, frame: Frame, examples: Sequence[Example]) -> str | None:
    """Return why some row's prompt and answer exceed the context, None when all fit.

    Every label of a closed set is scored, so the longest one counts, whatever the row's own is.
    Where only the base knows its context, it refuses what does not fit itself. A token has at least
    one byte, so rows of few bytes are not tokenized; half of the context is left for what a
    normalizer or a template may add.
    """
    if base.context is None:
        return None
    longest, labels = 0, frame.label_words if closed(frame) else ()
    tokens_of, most = cache(base.answer_tokens), max(labels, key=_bytes, default=None)
    for example in examples:
        target = frame.target(example) if most is None else most
        for messages in (frame.messages(example), *frame.neutral(example)):
            texts = [target, *(message.content for message in messages)]
            if 2 * sum(map(_bytes, texts)) + 64 * len(texts) <= base.context:
                continue
            answer = max(map(tokens_of, labels or (target,)))
            longest = max(longest, base.prompt_tokens(messages) + answer)
    if longest <= base.context:
        return None
    return f"prompt and answer need {longest:,} tokens, the model's context is {base.context:,}"


def _bytes(text: str) -> int:
    return len(text.encode())
