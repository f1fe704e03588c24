"""Why the parts of a technique cannot stand together, from what each of them says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from savile import registry
from savile.registry import PartInfo


def crowded(infos: Sequence[PartInfo], whose: str) -> str | None:
    """Return why parts cannot stand together: two change the same place."""
    places: dict[str, str] = {}
    for info in infos:
        for place in info.facts.get("occupies", ()):
            if place in places:
                return f"{places[place]} and {info.name} both change the {whose}'s {place}"
            places[place] = info.name
    return None


def no_policy(objectives: Sequence[tuple[str, Any]]) -> str | None:
    """Return why a chain of objectives leaves nothing that answers."""
    infos = [info for name, _ in objectives if (info := registry.find(name)) is not None]
    if not infos or any("policy" in info.facts.get("gives", ()) for info in infos):
        return None
    last = infos[-1].name
    return f"{last} trains nothing that answers; let one follow that does, such as {last}+ppo"
