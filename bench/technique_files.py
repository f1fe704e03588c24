"""What a technique is as files: how long its own is, which others name it, which tests know it.

A file names a technique when its syntax tree imports its module, has its class, or holds its name
as a text (alone, or as a part of `lora+dpo`); comments and docstrings do not count. A name that is
also a word of the contracts, as `reward` is, counts by its module and its class alone.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from savile import registry
from savile.registry import PartInfo

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "savile"
NO_CODE = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)


def techniques() -> list[PartInfo]:
    """Return every prompt, delta and objective."""
    return [part for axis in registry.AXES[:3] for part in registry.parts(axis).values()]


def facts() -> dict[str, dict[str, Any]]:
    """Return the figures of every technique's files by its name."""
    shared = {word for part in techniques() for word in (*part.needs, *part.facts.get("gives", ()))}
    source = {path: naming(path) for path in sorted(SOURCE.rglob("*.py"))}
    tests = {path: naming(path) for path in sorted((ROOT / "tests").rglob("test_*.py"))}
    found = {}
    for part in techniques():
        own = SOURCE / part.axis / f"{part.name}.py"
        text = own.read_text(encoding="utf-8")
        found[part.name] = {
            "lines": len(text.splitlines()),
            "code_lines": code_lines(text),
            "named_in": [
                path.relative_to(SOURCE).as_posix()
                for path, words in source.items()
                if path != own and named(part, words - quoted(shared))
            ],
            "tests": [
                path.relative_to(ROOT / "tests").as_posix()
                for path, words in tests.items()
                if named(part, words - quoted(shared))
            ],
        }
    return found


def named(part: PartInfo, words: set[str]) -> bool:
    """Return whether the words of a file name a technique."""
    return bool({part.module, part.class_name, *quoted([part.name])} & words)


def quoted(texts: Iterable[str]) -> set[str]:
    """Return texts as `naming` has them."""
    return {f'"{text}"' for text in texts}


def naming(path: Path) -> set[str]:
    """Return the modules, names and texts (in quotes) that a file's syntax tree holds."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return {word for node in ast.walk(tree) if id(node) not in prose for word in words_of(node)}


def words_of(node: ast.AST) -> Iterator[str]:
    """Yield what one node may name a technique by."""
    if isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from quoted(re.split(r"[+(]", node.value))


def code_lines(text: str) -> int:
    """Return how many lines hold code: no docstring, no comment, not blank."""
    prose = {
        number
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    code = {
        number
        for token in tokens
        if token.type not in NO_CODE and token.string
        for number in range(token.start[0], token.end[0] + 1)
    }
    return len(code - prose)
