"""Texts that come from a command line or from standard input: UTF-8, or an error that says where.

What the system hands over is not always text: under some locales Python smuggles odd bytes through
as lone surrogates, which no tokenizer takes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from savile.errors import DataError, Problem, UsageError


def inputs(given: Sequence[str]) -> list[str]:
    """Return the texts of a command line; without one, the lines of standard input.

    Raises:
        UsageError: a text of the command line is not UTF-8.
        DataError: standard input is not.
    """
    for number, text in enumerate(given, 1):
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            what = "is not UTF-8"
            raise UsageError(Problem(where=f"input {number}", what=what)) from None
    return list(given) or _lines(sys.stdin.buffer.read())


def _lines(content: bytes) -> list[str]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            Problem(
                where=f"standard input, line {line}",
                what=f"not UTF-8 at byte {error.start} (0x{content[error.start]:02X})",
                fix="Convert it first: iconv -f ENCODING -t UTF-8",
            )
        ) from None
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]
