"""The tokens of a request: the most they can be before it is sent, what to believe afterwards.

    most prompt tokens = bytes of the texts + 16 a message + overhead     a token has a byte or more
    most written tokens = max_tokens of the request

What the server counts is believed between one token in 32 bytes (runs of one letter shortened) and
that. Outside, in the absence of counts, or with a total below its parts, the answer is marked with
a doubt and the larger number is paid for, so that an endpoint that counts too little cannot lead a
run over its ceiling. Servers may put words of their own before a prompt: the overhead is the most
that was seen.

Source: byte-level BPE (Radford et al. 2019) makes tokens of whole bytes; the longest words in its
vocabularies stay below 32 bytes a token on average.
"""

from __future__ import annotations

import re
import threading
from typing import Final, NamedTuple, final

from savile.lm.base import Chat
from savile.lm.endpoint.replies import Said
from savile.spec.endpoint import PriceSection

PER_MESSAGE: Final = 16
OVERHEAD: Final = 64
BYTES_PER_TOKEN: Final = 32
RUN: Final = re.compile(r"(.)\1{3,}", re.DOTALL)


class Counted(NamedTuple):
    """Tokens that are paid for, and what is doubtful about the server's count."""

    prompt: int
    completion: int
    doubt: str | None


def usd(price: PriceSection | None, prompt: int, completion: int) -> float | None:
    """Return what tokens cost; None without prices."""
    if price is None:
        return None
    return (price.input * prompt + price.output * completion) / 1e6


def answer_tokens(text: str) -> int:
    """Return the most tokens a text can have, with the one that ends it."""
    return len(text.encode("utf-8")) + 1


@final
class Counts:
    """Counts tokens for one endpoint; may be used from many threads."""

    def __init__(self) -> None:
        self.overhead = OVERHEAD
        self._lock = threading.Lock()

    def most(self, chat: Chat) -> int:
        """Return the most tokens a prompt can have."""
        return _bytes(chat) + PER_MESSAGE * len(chat) + self.overhead

    def believe(self, chat: Chat, limit: int, said: Said) -> Counted:
        """Hold a server's counts against what was sent and what came back.

        Args:
            chat: the prompt.
            limit: the most tokens that were asked for, of each answer.
            said: the answers.
        """
        most, usage, limit = self.most(chat), said.usage, limit * len(said.choices)
        if usage.prompt is None or usage.completion is None:
            written = min(answer_tokens(said.text), limit)
            return Counted(most, written, "no usage is given")
        prompt, completion, doubt = usage.prompt, usage.completion, None
        if usage.total is not None and usage.total < prompt + completion:
            doubt = "the total is below its parts"
        if prompt * BYTES_PER_TOKEN < _bytes(chat, shortened=True):
            prompt, doubt = most, "too few prompt tokens for the text that was sent"
        elif prompt > most:
            self._grow(prompt - most)
            doubt = "more prompt tokens than the text has bytes"
        if completion * BYTES_PER_TOKEN < len(_shortened(said.text).encode("utf-8")):
            completion = min(answer_tokens(said.text), max(limit, completion))
            doubt = "too few written tokens for the text that came back"
        elif completion > limit:
            doubt = "more written tokens than were asked for"
        return Counted(prompt, completion, doubt)

    def _grow(self, more: int) -> None:
        with self._lock:
            self.overhead += more


def _bytes(chat: Chat, *, shortened: bool = False) -> int:
    texts = (message.content for message in chat)
    return sum(len((_shortened(t) if shortened else t).encode("utf-8")) for t in texts)


def _shortened(text: str) -> str:
    """Shorten runs of one letter, which are one token however long they are."""
    return RUN.sub(r"\1\1\1", text)
