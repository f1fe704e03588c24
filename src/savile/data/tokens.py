"""Token counts where the base model's tokenizer lies on this machine; nothing is downloaded.

`tokenizers` is loaded only when a count is wanted. The context is the model's position limit, from
its config.json. Chat templates add a few tokens a row, which `OVERHEAD` stands for.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from savile.errors import EnvironmentProblem, Problem

EMBEDDED = {"embedded": "small", "embedded-large": "large"}
CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length")
OVERHEAD = 16
"""Tokens that a chat template adds to a question and an answer, about."""


class Counter(NamedTuple):
    """How to count tokens, and how many fit."""

    count: Callable[[str], int]
    context: int | None
    source: str
    """The tokenizer that counts."""


def counter(base: object, folder: Path) -> Counter | None:
    """Return the base model's token counter, None when its tokenizer is not at hand.

    A base behind an API counts its tokens itself.

    Args:
        base: the spec's: a name, a folder, a Hugging Face id (never looked up), or a section.
        folder: what a relative folder resolves against.

    Raises:
        EnvironmentProblem: there is a tokenizer that cannot be loaded.
    """
    if not isinstance(base, str):
        return None
    if base in EMBEDDED:
        home = Path(str(resources.files("savile") / "embedded" / EMBEDDED[base]))
    else:
        home = folder / base
    file = home / "tokenizer.json"
    if not file.is_file():
        return None
    try:
        library: Any = importlib.import_module("tokenizers")
    except ImportError:
        return None
    try:
        tokenizer = library.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises no narrower kind
        what = "the tokenizer cannot be loaded"
        said = str(error).strip().split("\n")[0][:300]
        raise EnvironmentProblem(Problem(what=what, where=str(file), found=said)) from error
    context = _context(home / "config.json")

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    return Counter(count, context, base)


def _context(file: Path) -> int | None:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(config, dict):
        return None
    found = [config[key] for key in CONTEXT_KEYS if isinstance(config.get(key), int)]
    return found[0] if found else None
