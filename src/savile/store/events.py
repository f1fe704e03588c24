"""The event log: one JSON line an event with its own crc32, appended in one write.

A last line that a kill cut short is left out; anything else that changed is reported.
"""

from __future__ import annotations

import errno
import json
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from savile.store.files import corrupt, disk, dump_json

_SEALED_LINE: Final = re.compile(rb'^(\{.*), "crc32": "([0-9a-f]{8})"\}', re.DOTALL)


def append_event(path: Path, event: Mapping[str, Any]) -> None:
    """Append one event as one JSON line that carries its own crc32, in one write, and flush it."""
    body = dump_json(event, indent=None)[:-2]
    line = body + b', "crc32": "%08x"}\n' % zlib.crc32(body)
    with disk(path, len(line)):
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if os.write(handle, line) != len(line):
                raise OSError(errno.ENOSPC, "the line was cut")
            os.fsync(handle)
        finally:
            os.close(handle)


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return every event; a last line cut by a kill is left out, anything else wrong is reported.

    Raises:
        IntegrityError: naming file and line.
    """
    raw = path.read_bytes() if path.exists() else b""
    whole, _, tail = raw.rpartition(b"\n")
    if (sealed := _SEALED_LINE.match(tail)) and sealed.end() < len(tail):
        corrupt(path, "has a changed end of line", found=repr(tail[-12:]), expected="a line end")
    lines = whole.split(b"\n") if whole else []
    return [_checked_line(path, number, line) for number, line in enumerate(lines, 1)]


def mend_events(path: Path) -> None:
    """Cut off a torn last line so that the next event starts on its own. Needs the run lock."""
    read_events(path)
    if not path.exists():
        return
    raw = path.read_bytes()
    if (whole := raw.rfind(b"\n") + 1) < len(raw):
        with disk(path, 0), path.open("r+b") as file:
            file.truncate(whole)
            os.fsync(file.fileno())


def _checked_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    where = Path(f"{path}:{number}")
    matched = _SEALED_LINE.fullmatch(line)
    if matched is None:
        corrupt(where, "is not an event line", found=repr(line[:40]), expected="JSON with a crc32")
    found = f"{zlib.crc32(matched[1]):08x}"
    if found != (expected := matched[2].decode()):
        corrupt(where, "has changed", found=f"crc32 {found}", expected=f"crc32 {expected}")
    event: dict[str, Any] = json.loads(matched[1] + b"}")
    return event
