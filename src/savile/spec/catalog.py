"""Every technique part that exists, for `savile techniques`: read from files, nothing imported."""

from __future__ import annotations

from typing import Any

from savile import registry
from savile.registry import MISSING, PartInfo, Setting


def techniques() -> list[dict[str, Any]]:
    """Return every prompt, delta, objective and metric with its settings, JSON-able."""
    return [_entry(info) for axis in registry.AXES for info in registry.parts(axis).values()]


def _entry(info: PartInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "axis": info.axis,
        "summary": info.summary,
        "needs": list(info.needs),
        "source": info.source,
        "settings": [_setting(setting) for setting in info.settings],
    }


def _setting(setting: Setting) -> dict[str, Any]:
    default = None if setting.default is MISSING else setting.default
    return {
        "name": setting.name,
        "type": setting.annotation,
        "default": list(default) if isinstance(default, tuple) else default,
        "required": setting.default is MISSING,
        "doc": setting.doc,
    }
