"""What a spec says of the shape of written answers: `prompt.json_schema` or `prompt.regex`.

A schema is written in place or named as a file; the file is read here, so that the schema itself is
part of what a run is identified by.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final

from savile.spec.faults import Fault, Loc

LIBRARY: Final = "llguidance"
SCHEMA: Final[Loc] = ("prompt", "json_schema")
REGEX: Final[Loc] = ("prompt", "regex")
OBJECT_OR_FILE: Final = {"anyOf": [{"type": "object"}, {"type": "string"}]}
"""How a schema is written, for editors; after reading it is an object."""


def read(tree: Mapping[str, Any], folder: Path) -> list[Fault]:
    """Put the schema of a named file into the tree; return what is wrong with the file.

    Args:
        tree: of a written spec.
        folder: where paths in it start.
    """
    prompt = tree.get("prompt")
    if not isinstance(prompt, MutableMapping) or not isinstance(prompt.get("json_schema"), str):
        return []
    path = folder / prompt.pop("json_schema")
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        what = f"the file of 'json_schema' cannot be read: {error.strerror}"
        return [Fault(SCHEMA, what, found=str(path), fix="Its path starts at the spec's folder")]
    except ValueError as error:
        return [Fault(SCHEMA, f"{path.name} is not JSON: {error}")]
    if not isinstance(found, dict):
        return [Fault(SCHEMA, f"{path.name} holds no JSON schema, which is an object")]
    prompt["json_schema"] = found
    return []


def faults(json_schema: Mapping[str, Any] | None, regex: str | None, closed: bool) -> list[Fault]:
    """Return what is wrong with the shape of written answers.

    Args:
        json_schema: of the spec.
        regex: of the spec.
        closed: whether the spec has labels.
    """
    given = [loc for loc, one in ((SCHEMA, json_schema), (REGEX, regex)) if one is not None]
    if not given:
        return []
    if len(given) > 1:
        return [Fault(REGEX, "'json_schema' and 'regex' are both given", fix="Remove one of them")]
    if closed:
        what = f"'{given[0][-1]}' is for written answers, and labels are chosen, not written"
        return [Fault(given[0], what, fix="Remove it, or prompt.labels")]
    wrong = fault_of(given[0][-1], json.dumps(json_schema) if regex is None else regex)
    return [Fault(given[0], f"'{given[0][-1]}' cannot be used: {wrong}")] if wrong else []


def fault_of(kind: str | int, text: str) -> str | None:
    """Return why a schema or expression cannot be used, in one line; None where it can, or where
    the library that knows is not installed."""
    if importlib.util.find_spec(LIBRARY) is None:
        return None
    matcher = importlib.import_module(LIBRARY).LLMatcher
    make = {"json_schema": matcher.grammar_from_json_schema, "regex": matcher.grammar_from_regex}
    said = str(matcher.validate_grammar(make[str(kind)](text)))
    reasons = [line.strip() for line in said.splitlines() if line.startswith("error:")]
    return next(iter(reasons or said.splitlines()), None)
