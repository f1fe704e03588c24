"""What an endpoint answered: read from its JSON with nothing taken for granted.

Both shapes of the protocol become one `Reply`. A body without the parts that make an answer is a
failure that may pass; what is only useful (usage, log-probabilities) may be missing or wrong.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NoReturn

from savile.errors import IntegrityError
from savile.lm.endpoint.failures import Failure, plain

WRONG_SHAPE: Final = 3
"""Attempts after which answers of a wrong shape are taken for the endpoint's way: each may cost."""
Step = Mapping[str, float]
"""Texts that might have been written next, with their log-probabilities."""


class Usage(NamedTuple):
    """The tokens that a server says it counted; None where it says nothing usable."""

    prompt: int | None = None
    completion: int | None = None
    total: int | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer, as it is kept."""

    text: str
    finish: str
    """Why it ended: `stop`, `length`, `content_filter`."""
    prompt_tokens: int
    """Counted: as the server says, or the most it can be where that is impossible."""
    completion_tokens: int
    doubt: str | None = None
    """What is wrong with the usage the server gave."""
    seconds: float
    """What the attempt that brought it took."""
    model: str = ""
    """The name under which it was answered."""
    steps: tuple[tuple[str, Step], ...] = ()
    """Each written piece with what might have stood in its place; empty without
    log-probabilities."""
    together: int = 1
    """Answers that came with it, itself included: they shared prompt and time."""


class Choice(NamedTuple):
    """One answer of a body."""

    text: str
    finish: str
    steps: tuple[tuple[str, Step], ...]


class Said(NamedTuple):
    """What a body says, before it is held against what was asked."""

    choices: tuple[Choice, ...]
    """At least one."""
    usage: Usage
    """Of all of them."""
    model: str

    @property
    def text(self) -> str:
        """Everything that was written."""
        return "".join(choice.text for choice in self.choices)


def reply_of(kept: Any) -> Reply:
    """Return the reply of a kept answer.

    Raises:
        IntegrityError: it is not one.
    """
    try:
        steps = tuple((str(piece), dict(others)) for piece, others in kept["steps"])
        return Reply(**{**kept, "steps": steps})
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError("is not a kept answer") from error


def json_of(content: bytes) -> Any:
    """Return the parsed body.

    Raises:
        Failure: it is not JSON.
    """
    try:
        return json.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError):
        start = plain(content[:80].decode("utf-8", "replace"))
        what = f"its answer is not JSON: {start!r}" if content else "its answer is empty"
        raise Failure(what, billed=True, tries=WRONG_SHAPE) from None


def chat_reply(body: Any) -> Said:
    """Read the answer of `/chat/completions`; raises Failure when it holds none."""
    return _said(body, [_chat_choice(f"choices[{n}]", one) for n, one in enumerate(_choices(body))])


def completion_reply(body: Any) -> Said:
    """Read the answer of `/completions`; raises Failure when it holds none."""
    return _said(body, [_text_choice(f"choices[{n}]", one) for n, one in enumerate(_choices(body))])


def shared(replies: Sequence[Reply]) -> tuple[int, float]:
    """Return prompt tokens and seconds of asking for all samples of one chat: those of one request
    where the server gives several at a time, else of one request each."""
    if any(reply.together > 1 for reply in replies):
        return replies[0].prompt_tokens, max(reply.seconds for reply in replies)
    return sum(r.prompt_tokens for r in replies), sum(r.seconds for r in replies)


def parts(total: int, texts: Sequence[str]) -> list[int]:
    """Divide tokens that were counted together by the bytes of their texts; they add up again.

    Example: parts(10, ["aa", "aaaa", "aa"]) == [2, 6, 2]
    """
    sizes = [len(text.encode("utf-8")) + 1 for text in texts]
    ends = [total * sum(sizes[:n]) // sum(sizes) for n in range(len(sizes) + 1)]
    return [end - start for start, end in itertools.pairwise(ends)]


def _chat_choice(where: str, choice: Any) -> Choice:
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(message, Mapping):
        raise _shapeless(f"{where}.message")
    logprobs = choice.get("logprobs")
    written = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    steps = [_chat_step(step) for step in written] if isinstance(written, list) else []
    text = message.get("content")
    if text is None and "content" not in message:
        raise _shapeless(f"{where}.message.content")
    return Choice(_text(text or message.get("refusal")), _finish(choice), tuple(steps))


def _text_choice(where: str, choice: Any) -> Choice:
    if not isinstance(choice, Mapping) or "text" not in choice:
        raise _shapeless(f"{where}.text")
    logprobs = choice.get("logprobs")
    steps: list[tuple[str, Step]] = []
    if isinstance(logprobs, Mapping):
        pieces, others = logprobs.get("tokens"), logprobs.get("top_logprobs")
        if isinstance(pieces, list) and isinstance(others, list):
            steps = [(_text(p), _step(o)) for p, o in zip(pieces, others, strict=False)]
    return Choice(_text(choice["text"]), _finish(choice), tuple(steps))


def _choices(body: Any) -> list[Any]:
    choices = body.get("choices") if isinstance(body, Mapping) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        raise _shapeless("choices[0]")
    return choices


def _finish(choice: Mapping[str, Any]) -> str:
    return plain(choice.get("finish_reason") or "")


def _said(body: Mapping[str, Any], choices: Sequence[Choice]) -> Said:
    usage = body.get("usage")
    counts = usage if isinstance(usage, Mapping) else {}
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return Said(
        choices=tuple(choices),
        usage=Usage(*(_count(counts.get(name)) for name in names)),
        model=plain(body.get("model") or ""),
    )


def _text(value: Any) -> str:
    """Return a message's text: a string, a list of parts with texts, or nothing; lone surrogates,
    which JSON can spell and UTF-8 cannot, are replaced."""
    if isinstance(value, list):
        parts = [part.get("text") for part in value if isinstance(part, Mapping)]
        value = "".join(part for part in parts if isinstance(part, str))
    text = value if isinstance(value, str) else ""
    return text.encode("utf-8", "replace").decode("utf-8")


def _chat_step(step: Any) -> tuple[str, Step]:
    if not isinstance(step, Mapping):
        return "", {}
    top = step.get("top_logprobs")
    others = [o for o in top if isinstance(o, Mapping)] if isinstance(top, list) else []
    table = {_text(o.get("token")): o.get("logprob") for o in others}
    return _text(step.get("token")), _step(table)


def _step(table: Any) -> Step:
    """Return the entries whose log-probability is a number that one can be."""
    entries = table.items() if isinstance(table, Mapping) else ()
    return {
        _text(text): float(value)
        for text, value in entries
        if isinstance(value, int | float) and math.isfinite(value) and value <= 1e-3
    }


def _count(value: Any) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < 1 << 53 else None


def _shapeless(part: str) -> Failure:
    what = f"its answer has no {part}: not OpenAI's protocol"
    return Failure(what, billed=True, tries=WRONG_SHAPE)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
