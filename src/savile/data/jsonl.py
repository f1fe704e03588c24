"""JSON lines and JSON arrays with exact positions: every bad line is said, with its column.

`json` of the standard library does the parsing; hooks keep numbers as written, refuse `NaN`, and
refuse a key that occurs twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from savile.data.rows import Faults, Number, Row, Table, caret, shown
from savile.data.source import Line, Source
from savile.errors import Problem

TYPES = {
    list: "an array",
    str: "a text",
    Number: "a number",
    bool: "true or false",
    type(None): "null",
}
KEY_BEFORE = re.compile(r'("(?:[^"\\]|\\.)*"\s*:)\s*$')
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


LONGEST_ARRAY = 1 << 28
"""Bytes of an array that is written on one line: 256 MiB, for it is held in memory."""


class _Refused(ValueError):
    """Valid for Python's parser, not for us: the text to point at and the sentence."""

    def __init__(self, token: str, what: str) -> None:
        super().__init__(what)
        self.token = token
        self.what = what


def _pairs(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _Refused(f'"{twice}"', f"key {shown(twice)} occurs twice in one object")
    return found


def _constant(name: str) -> Any:
    raise _Refused(name, f"{name} is not JSON")


DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_constant=_constant, parse_int=Number, parse_float=Number
)


def read_lines(source: Source) -> Table:
    """Read one object a line; blank lines are skipped."""
    table = Table(name=source.name, notes=source.notes, ragged=True)
    faults = Faults()
    escaped_nul = 0
    for line in source.lines():
        if not line.text.strip():
            continue
        value, problem = _value(line, source)
        if problem is None and not isinstance(value, dict):
            what = f"expected an object, found {TYPES[type(value)]}"
            problem = _at(source, line, 1, what)
        if problem is not None:
            faults.add(problem)
            continue
        escaped_nul += "\\u0000" in line.text
        table.rows.append(Row(value, line.number))
    faults.raise_any()
    if escaped_nul:
        table.notes.append(
            f"{source.name}: {escaped_nul} row(s) hold an escaped NUL character; kept"
        )
    table.sha256 = source.sha256
    return table


def _at(source: Source, line: Line, column: int, what: str, fix: str = "") -> Problem:
    where = f"{source.name}:{line.number}:{column}"
    return Problem(where=where, what=what, fix=fix, context=caret(line.text, column))


def _value(line: Line, source: Source) -> tuple[Any, Problem | None]:
    text = line.text
    try:
        start = len(text) - len(text.lstrip())
        value, end = DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        return None, _syntax(source, line, error)
    except _Refused as error:
        return None, _at(source, line, text.rfind(error.token) + 1, error.what)
    except RecursionError:
        return None, Problem(where=f"{source.name}:{line.number}", what="nested too deeply")
    if text[end:].strip():
        at = end + len(text[end:]) - len(text[end:].lstrip()) + 1
        return None, _at(source, line, at, "expected the end of the line after one JSON value")
    found = SURROGATE.search(text)
    if found and not _encodes(value):
        what = "a lone surrogate, which is not a character"
        return None, _at(source, line, found.start() + 1, what)
    return value, None


def _encodes(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _syntax(source: Source, line: Line, error: json.JSONDecodeError) -> Problem:
    at_end = error.pos >= len(line.text.rstrip()) or error.msg.startswith("Unterminated")
    if not line.ended and at_end:
        inside = "a string" if error.msg.startswith("Unterminated") else "an object"
        what = f"line {line.number} ends inside {inside}; file truncated?"
        problem = _at(source, line, len(line.text), what)
        return Problem(
            where=problem.where,
            what=what,
            found=f"{source.size} bytes, {line.number} lines, no line end after the last",
            context=problem.context,
        )
    return _at(source, line, error.pos + 1, _words(error.msg, line.text[: error.pos]))


def _words(message: str, before: str) -> str:
    """Say Python's message in our words, with the key that stands before the place."""
    if message == "Expecting value":
        key = KEY_BEFORE.search(before[-200:])
        return "expected a value" + (f" after {key[1]}" if key else "")
    words = {
        "Expecting property name enclosed in double quotes": 'expected a key in "double quotes"',
        "Illegal trailing comma before end of object": "a comma before the end of the object",
        "Illegal trailing comma before end of array": "a comma before the end of the array",
        "Expecting ',' delimiter": "expected a comma, or the end of the object",
        "Expecting ':' delimiter": "expected a colon after the key",
        "Unterminated string starting at": "a string that starts here does not end on this line",
        "Invalid control character at": "a control character inside a string; write it as \\uXXXX",
    }
    return words.get(message, "not JSON: " + message[:1].lower() + message[1:])


def read_array(source: Source) -> Table:
    """Read a `.json` file: an array of objects, or one object a line."""
    source.max_line = max(source.max_line, LONGEST_ARRAY)
    lines = list(source.lines())
    first = next((line.text.lstrip() for line in lines if line.text.strip()), "")
    if first and not first.startswith("["):
        return _object_file(lines, source)
    text = "\n".join(line.text for line in lines)
    table = Table(name=source.name, notes=source.notes, sha256=source.sha256, ragged=True)
    if not text.strip():
        return table
    position, line_number = text.index("[") + 1, 1 + text[: text.index("[")].count("\n")
    scanned = position
    while True:
        position = _skip(text, position)
        line_number += text.count("\n", scanned, position)
        scanned = position
        if text[position : position + 1] == "]" and not table.rows:
            break
        value, end = _element(text, position, source)
        if not isinstance(value, dict):
            what = f"expected an object, found {TYPES[type(value)]}"
            raise source.error(what, line_number)
        table.rows.append(Row(value, line_number))
        position = _skip(text, end)
        mark = text[position : position + 1]
        if mark == "]":
            break
        if mark != ",":
            raise _broken(text, position, source, "expected a comma or the end of the array")
        position += 1
    if text[position + 1 :].strip():
        after = _skip(text, position + 1)
        raise _broken(text, after, source, "expected the end of the file after the array")
    return table


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\n\r":
        position += 1
    return position


def _element(text: str, position: int, source: Source) -> tuple[Any, int]:
    try:
        value, end = DECODER.raw_decode(text, position)
    except json.JSONDecodeError as error:
        what = _words(error.msg, text[: error.pos])
        if error.msg.startswith("Unterminated"):  # a string in an array can only end with the file
            what = "the file ends inside a string that starts here; file truncated?"
        raise _broken(text, error.pos, source, what) from error
    except _Refused as error:
        at = max(position, text.find(error.token, position))
        raise _broken(text, at, source, error.what) from error
    except RecursionError:
        raise _broken(text, position, source, "nested too deeply") from None
    if SURROGATE.search(text, position, end) and not _encodes(value):
        raise _broken(text, position, source, "a lone surrogate, which is not a character")
    return value, end


def _broken(text: str, position: int, source: Source, what: str) -> Exception:
    line = text.count("\n", 0, position) + 1
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    shown_line = text[start : end if end >= 0 else len(text)]
    if position >= len(text.rstrip()):
        what += "; file truncated?"
    raised = source.error(what, None, context=caret(shown_line, position - start + 1))
    problem = raised.problems[0]
    where = f"{source.name}:{line}:{position - start + 1}"
    return type(raised)(Problem(where=where, what=problem.what, context=problem.context))


def _object_file(lines: list[Line], source: Source) -> Table:
    """A `.json` file that does not start with `[`: JSON lines under another name, or one object."""
    first = next(line for line in lines if line.text.strip())
    try:
        value = DECODER.decode(first.text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        what = "expected an array of objects, or one object a line"
        raise source.error(what, first.number, context=caret(first.text, 1))
    source.notes.append(f"{source.name}: one object a line, read as .jsonl")
    return read_lines(source)
