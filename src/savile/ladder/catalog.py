"""What `savile techniques` lists: every part with its settings, read from the source files."""

from __future__ import annotations

import textwrap
from typing import Any

from savile.registry import AXES, MISSING, PartInfo, Setting, parts


def document() -> dict[str, Any]:
    """Return every part by axis, as JSON values."""
    return {axis: [_part(info) for info in parts(axis).values()] for axis in AXES}


def text(width: int = 100) -> str:
    """Return the list for a terminal."""
    lines: list[str] = []
    for axis in AXES:
        lines += [axis]
        for info in parts(axis).values():
            lines += _wrapped(f"{info.name:<18} {info.summary}", 2, 21, width)
            if info.source:
                lines += _wrapped(info.source, 21, 21, width)
            for setting in info.settings:
                lines += _wrapped(f"{_shown(setting)}  {setting.doc}", 21, 25, width)
        lines.append("")
    return "\n".join(lines).rstrip()


def _part(info: PartInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "class": info.class_name,
        "summary": info.summary,
        "source": info.source,
        "needs": list(info.needs),
        "settings": [
            {
                "name": setting.name,
                "type": setting.annotation,
                "required": setting.default is MISSING,
                "default": None if setting.default is MISSING else setting.default,
                "doc": setting.doc,
            }
            for setting in info.settings
        ],
    }


def _shown(setting: Setting) -> str:
    return setting.name if setting.default is MISSING else f"{setting.name} = {setting.default!r}"


def _wrapped(line: str, first: int, rest: int, width: int) -> list[str]:
    return textwrap.wrap(line, width, initial_indent=" " * first, subsequent_indent=" " * rest)
