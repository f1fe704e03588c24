"""The shape that a written answer must have: a JSON schema or a regular expression; plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """What every written answer is held to, token by token."""

    kind: Literal["json_schema", "regex"]
    text: str
    """The schema as JSON, or the expression."""
