"""A fault of a spec before it knows its line: a path into the tree and the parts of a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

Loc = tuple[str | int, ...]
"""Keys and indices from the root of the spec to a value."""
NUMBER = re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?\.(inf|nan)")

RENAMED: Mapping[str, str] = {
    "value_error": "{error}",
    "missing": "missing key '{key}'",
    "string_type": "'{key}' should be text",
    "int_type": "'{key}' should be a whole number",
    "int_parsing": "'{key}' should be a whole number",
    "int_from_float": "'{key}' should be a whole number",
    "float_type": "'{key}' should be a number",
    "float_parsing": "'{key}' should be a number",
    "finite_number": "'{key}' should be a finite number",
    "bool_type": "'{key}' should be true or false",
    "bool_parsing": "'{key}' should be true or false",
    "model_type": "'{key}' should be a section with keys of its own",
    "model_attributes_type": "'{key}' should be a section with keys of its own",
    "dict_type": "'{key}' should be a section with keys of its own",
    "tuple_type": "'{key}' should be a list",
    "list_type": "'{key}' should be a list",
    "greater_than": "'{key}' should be above {gt}",
    "greater_than_equal": "'{key}' should be at least {ge}",
    "less_than": "'{key}' should be below {lt}",
    "less_than_equal": "'{key}' should be at most {le}",
    "literal_error": "'{key}' should be {expected}",
    "string_pattern_mismatch": "'{key}' should match {pattern}",
    "string_too_short": "'{key}' should not be empty",
    "too_short": "'{key}' should have at least {min_length} item(s)",
}
"""Sentences for pydantic's error types; others keep pydantic's own words."""


class Fault(NamedTuple):
    """One thing that is wrong at one place of the tree."""

    loc: Loc
    what: str
    found: str = ""
    expected: str = ""
    fix: str = ""
    at_key: bool = False
    """Whether the place to point at is the key (an unknown key) and not its value."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the choice closest to `name`, or an empty text."""
    by_folded = {choice.lower(): choice for choice in choices}
    close = get_close_matches(name.lower(), by_folded, n=1, cutoff=0.6)
    return f"; did you mean '{by_folded[close[0]]}'?" if close else ""


def one_of(choices: Iterable[str]) -> str:
    """Return choices as a readable list."""
    return ", ".join(choices)


def clipped(value: Any, limit: int = 60) -> str:
    """Return a value for a person, never longer than about `limit` characters; text is quoted.

    A number is not, though YAML's scalars are read as text.
    """
    text = value if isinstance(value, str) and NUMBER.fullmatch(value) else repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def unknown_key(loc: Loc, choices: Iterable[str]) -> Fault:
    """Return the fault of a key that does not exist, with the nearest one that does."""
    keys = list(choices)
    hint = nearest(str(loc[-1]), keys)
    return Fault(
        loc,
        f"unknown key '{loc[-1]}'{hint}",
        expected="" if hint else one_of(keys),
        at_key=True,
    )


def from_pydantic(error: Mapping[str, Any], prefix: Loc = ()) -> Fault:
    """Turn one entry of pydantic's `errors()` (other than an unknown key) into a fault."""
    loc: Loc = (*prefix, *error["loc"])
    context = {key: value for key, value in error.get("ctx", {}).items() if key != "key"}
    key = next((str(part) for part in reversed(loc) if isinstance(part, str)), "spec")
    words = RENAMED.get(error["type"], "'{key}': " + error["msg"].replace("{", "").replace("}", ""))
    found = "" if error["type"] in ("missing", "value_error") else clipped(error["input"])
    what = words.format(key=key, **context)
    if error["type"] == "literal_error" and isinstance(error["input"], str):
        what += nearest(error["input"], str(context["expected"]).replace("'", " ").split())
    fix = ""
    if error["type"] == "string_type" and isinstance(error["input"], Mapping):
        fix = "Quote a text that holds braces"
    return Fault(loc, what, found=found, fix=fix)
