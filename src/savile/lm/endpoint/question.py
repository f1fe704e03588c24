"""A chat as a request: its fields, its identity, and what a server's dialect makes of it.

Servers that speak the protocol differ in what they accept. A field that one refuses is renamed or
left out for the rest of the session when nothing depends on it; the identity of a question is made
of what was meant, so that a kept answer is found whatever the dialect was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, final

from savile import store
from savile.lm.base import Chat, seed_of
from savile.lm.endpoint.failures import Refusal
from savile.spec.endpoint import EndpointSection

ALTERNATIVES: Final = {"chat": 20, "completions": 5}
"""Log-probabilities asked for at each position: the most that the protocol allows."""
PLAIN_END: Final = "\n\n"
"""What ends an answer of plain text, where demonstrations are divided by empty lines."""
FALLBACKS: Final[Mapping[str, Mapping[str, str | None]]] = {
    "max_tokens": {"max_tokens": "max_completion_tokens"},
    "logprobs": {"logprobs": None, "top_logprobs": None},
    "top_logprobs": {"logprobs": None, "top_logprobs": None},
    "n": {"n": None},
    "seed": {"seed": None},
    "stop": {"stop": None},
}
"""By refused field: which fields are sent under another name, or not at all. Without `n` samples
are asked one by one, without `stop` texts are cut here, without `seed` the server draws as it
likes."""


ADVICE: Final = {
    "temperature": "Write base.request: {temperature: 1}; its answers are then drawn by chance",
    "response_format": "Leave constrained_json out: the server takes no such schema (many want "
    "additionalProperties: false and every field required)",
    "context": "Shorten the prompt, or take a model with a longer context",
}
"""What to do, by a word of the refusal."""


@final
@dataclass(frozen=True, kw_only=True)
class Question:
    """One chat with the limits of its answer."""

    chat: Chat
    max_tokens: int
    labels: tuple[str, ...] = ()
    """The closed set, for which log-probabilities are asked too."""
    stop: tuple[str, ...] = ()
    json_schema: str | None = None
    """What the answer is held to, as JSON."""
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    """Of all samples of the chat."""
    n: int = 1
    """Samples that are asked."""
    first: int = 0
    """Number of the first of them."""

    def ends(self, base: EndpointSection) -> tuple[str, ...]:
        """Return the texts before which an answer ends."""
        return self.stop if base.api == "chat" else (*self.stop, PLAIN_END)

    def fields(self, base: EndpointSection) -> dict[str, Any]:
        """Return the fields of the request as they are meant."""
        found: dict[str, Any] = {
            "model": base.model,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature or 0,
            **base.request,
            **self._sampling(),
        }
        if base.api == "chat":
            found["messages"] = [{"role": m.role, "content": m.content} for m in self.chat]
            found |= {} if self.json_schema is None else _schema(self.json_schema)
            wanted: dict[str, Any] = {"logprobs": True, "top_logprobs": ALTERNATIVES["chat"]}
        else:
            found["prompt"] = as_text(self.chat)
            wanted = {"logprobs": ALTERNATIVES["completions"]}
        if ends := self.ends(base):
            found["stop"] = list(ends)
        return {**wanted, **found} if self.labels else found

    def key(self, base: EndpointSection, sample: int = 0) -> str:
        """Return the sha256 under which the answer, or one of its samples, is kept."""
        alone = replace(self, n=1, first=sample).fields(base)
        meant = {"endpoint": base.endpoint, "api": base.api, **alone}
        return store.sha256(store.dump_json(meant))

    def _sampling(self) -> dict[str, Any]:
        if not self.temperature:
            return {}
        found: dict[str, Any] = {"seed": seed_of(self.seed, self.chat, self.first)}
        found |= {"top_p": self.top_p} if self.top_p < 1.0 else {}
        return found | ({"n": self.n} if self.n > 1 else {})


def _schema(text: str) -> dict[str, Any]:
    """Return the field that asks for JSON of a schema; servers that know it enforce it."""
    asked = {"name": "answer", "schema": json.loads(text), "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": asked}}


def advice(refusal: Refusal) -> str:
    """Return what to do about a refusal, empty when nobody knows."""
    words = f"{refusal.field} {refusal.code} {refusal.what}".lower()
    return next((todo for word, todo in ADVICE.items() if word in words), "")


def as_text(chat: Chat) -> str:
    """Return a chat as plain text turns, as for a base without a chat template."""
    ends = {"system": PLAIN_END, "user": "\n", "assistant": PLAIN_END}
    return "".join(message.content + ends[message.role] for message in chat)


@final
class Dialect:
    """What one server does not accept, learned from its refusals."""

    def __init__(self) -> None:
        self._names: dict[str, str | None] = {}

    def spoken(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields under the names this server accepts."""
        named = {self._names.get(name, name): value for name, value in fields.items()}
        return {name: value for name, value in named.items() if name is not None}

    def learns(self, refusal: Refusal, sent: Sequence[str]) -> bool:
        """Return whether the refused field has a way around that was not tried; take it then.

        Args:
            refusal: of a request.
            sent: the names of its fields.
        """
        words = refusal.what.replace("'", " ").replace('"', " ").replace("`", " ").split()
        blamed = [refusal.field] if refusal.field else [w.strip(".,:;{}[]()") for w in words]
        for name in blamed:
            if name in FALLBACKS and name in sent:
                self._names |= FALLBACKS[name]
                return True
        return False
