"""The key of an endpoint: read from the environment, sent, and never written anywhere else.

Everything that comes back from a server is passed through `hide` before it is looked at, so that a
server that repeats the key (some do, in their error messages) cannot put it into a file or a log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, final

from savile.errors import EnvironmentProblem, Problem

SHORTEST: Final = 8
"""Shorter keys are placeholders (`none`, `EMPTY`), and hiding them would change answers."""
NO_KEY: Final = "none"
"""What is sent where the variable is not set: servers of one's own ask for nothing."""
SHOWN_INSTEAD: Final = "[key]"
DEEPEST: Final = 32
"""Levels of a JSON value that are looked at; log-probabilities, the deepest, are on the seventh."""


@final
class Secret:
    """A key that shows itself to nobody but the client that sends it."""

    def __init__(self, variable: str, environment: Mapping[str, str]) -> None:
        """Read the key.

        Raises:
            EnvironmentProblem: it holds what cannot be sent in a header.
        """
        self.variable = variable
        value = environment.get(variable, "").strip()
        self.given = bool(value)
        if not value.isascii() or not value.isprintable() or " " in value:
            raise EnvironmentProblem(
                Problem(
                    where=variable,
                    what="the key holds a space, a line break or a letter that cannot be sent",
                    fix="Set the variable to the key alone",
                )
            )
        self._value = value or NO_KEY

    def reveal(self) -> str:
        """Return the key, for the client alone."""
        return self._value

    def hide(self, text: str) -> str:
        """Return a text without the key."""
        if len(self._value) < SHORTEST:
            return text
        return text.replace(self._value, SHOWN_INSTEAD)

    def hidden(self, value: Any, depth: int = DEEPEST) -> Any:
        """Return a JSON value without the key in any of its texts, whatever escapes spelled them;
        None for what is nested deeper than an answer is."""
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, Mapping | list) and not depth:
            return None
        if isinstance(value, Mapping):
            return {self.hide(str(k)): self.hidden(v, depth - 1) for k, v in value.items()}
        return [self.hidden(v, depth - 1) for v in value] if isinstance(value, list) else value

    def __repr__(self) -> str:
        return f"Secret({self.variable})"
