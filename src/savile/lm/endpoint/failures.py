"""What can go wrong with one attempt: it may be tried again, or it is refused for good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CLIPPED = 300


class Failure(Exception):
    """An attempt that brought no answer; another one may."""

    def __init__(
        self,
        what: str,
        *,
        billed: bool = False,
        after: float | None = None,
        everyone: bool = False,
        tries: int | None = None,
    ) -> None:
        """Say what happened.

        Args:
            what: for people; holds nothing that is secret.
            billed: whether the provider may ask money for it.
            after: seconds the server asks to wait.
            everyone: whether the wait concerns every request (a rate limit).
            tries: attempts after which such a failure is final; None: until time is up.
        """
        super().__init__(what)
        self.what, self.billed, self.after = what, billed, after
        self.everyone, self.tries = everyone, tries


class Refusal(Exception):
    """The endpoint refuses this very request (400, 413, 422): asking again is no use."""

    def __init__(self, what: str, *, code: str = "", field: str = "") -> None:
        """Say what was refused.

        Args:
            what: the server's words, for people.
            code: the protocol's name of the error, such as `context_length_exceeded`.
            field: the field of the request that is to blame, where the server names one.
        """
        super().__init__(what)
        self.what, self.code, self.field = what, code, field


class Stopped(Exception):
    """The run ends: what has not begun is not begun."""


def said(body: Any) -> tuple[str, str, str]:
    """Return message, code and field of an error's body, whatever shape it has.

    Known shapes: `{"error": {"message", "code", "param"}}`, its inside alone, `{"detail": …}`,
    `{"error": "text"}`, and plain text.
    """
    inner = body.get("error", body) if isinstance(body, Mapping) else body
    if not isinstance(inner, Mapping):
        return plain(inner), "", ""
    message = inner.get("message") or inner.get("detail") or inner
    code = inner.get("code") or inner.get("type")
    return plain(message), plain(code or ""), plain(inner.get("param") or "")


def plain(value: Any) -> str:
    """Return a server's words on one line, short, without anything a terminal would act on."""
    text = value if isinstance(value, str) else str(value)
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= CLIPPED else line[: CLIPPED - 1] + "…"
