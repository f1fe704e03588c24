"""A closed set of answers behind an API: the labels are named in the prompt and read from the text.

A server does not score labels, so the model is told what they are and writes one. The text is a
label when it is one up to case, quotes and punctuation, or when it holds exactly one as whole words
(the longer one where one is part of another). A text that is none is read from log-probabilities
where the server gives them:

    p(label) = sum of p(written so far) x p(piece)     over the pieces that lead to it and no other

the label of the highest wins, which needs no second request. Else there is no answer, and that
counts as wrong: a model that leaves the set is not helped by a guess.

Source: reading labels from text: Liang et al. 2022 (HELM), arXiv 2211.09110, appendix; first-token
probabilities of choices: Hendrycks et al. 2021, arXiv 2009.03300. Here any position that decides is
used, not only the first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final

from savile.lm.base import Chat
from savile.lm.endpoint.replies import Step
from savile.types import Message

ASKED: Final = "Answer with exactly one of these labels and nothing else:"
EDGES: Final = " \t\r\n\"'`*_.,:;!?()[]{}<>«»“”‘’。、"


def naming(chat: Chat, labels: Sequence[str]) -> list[Message]:
    """Return the chat with the labels named at the end of its system text."""
    said = "\n".join([ASKED, *labels])
    if chat and chat[0].role == "system":
        return [Message(role="system", content=f"{chat[0].content}\n{said}"), *chat[1:]]
    return [Message(role="system", content=said), *chat]


def read(text: str, labels: Sequence[str]) -> str | None:
    """Return the label that a text is or holds; None when it is none, or holds several."""
    if text.strip() in labels:
        return text.strip()
    same = [label for label in labels if _fold(label) == _fold(text)]
    found = same or _occurring(text, labels)
    return found[0] if len(found) == 1 else None


def likeliest(steps: Sequence[tuple[str, Step]], labels: Sequence[str]) -> str | None:
    """Return the label that log-probabilities speak for; None when they tell nothing.

    Args:
        steps: each written piece with the log-probabilities of what might have stood there.
        labels: the closed set.
    """
    chances = dict.fromkeys(labels, 0.0)
    written, path = "", 0.0
    for piece, others in steps:
        for other, logprob in others.items():
            led = _led_to(written + other, labels)
            if len(led) == 1 and other != piece:
                chances[led[0]] += math.exp(path + logprob)
        still = _led_to(written + piece, labels)
        if piece not in others or not still:
            break
        written, path = written + piece, path + others[piece]
        if len(still) == 1:
            chances[still[0]] += math.exp(path)
            break
    best = max(labels, key=chances.__getitem__)
    rest = [chance for label, chance in chances.items() if label != best]
    return best if chances[best] > max(rest, default=0.0) else None


def _led_to(start: str, labels: Sequence[str]) -> list[str]:
    """Return the labels that a text is the beginning of; none for white space alone."""
    begun = start.lstrip().casefold()
    return [label for label in labels if begun and label.casefold().startswith(begun)]


def _occurring(text: str, labels: Sequence[str]) -> list[str]:
    """Return the labels that stand in a text as whole words, none of them inside a longer one; a
    single letter only as it is written, because many are words."""
    found = []
    for label in sorted(filter(str.strip, labels), key=len, reverse=True):
        case = re.IGNORECASE if len(label) > 1 else re.NOFLAG
        pattern = re.compile(rf"(?<!\w){re.escape(label.strip())}(?!\w)", case)
        text, times = pattern.subn("\n", text)
        found += [label] * bool(times)
    return found


def _fold(text: str) -> str:
    return text.strip(EDGES).casefold()
