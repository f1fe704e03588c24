"""A list where a setting wants one value is a technique for each: `{few_shot: {k: [1, 4, 16]}}`.

Several lists give every combination, in the order they are written; `size` says how many before
one is made. Settings that want a list themselves (`lora: {targets: [q_proj, v_proj]}`) are left
alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any, Final

from savile import registry
from savile.spec.faults import Fault, Loc

LISTS: Final = ("tuple", "list", "Sequence", "Any")
"""Words of an annotation that takes a list."""
Place = tuple[str, ...]


def variants(item: Any, aliases: Mapping[str, str]) -> list[Any]:
    """Return the ladder items that an item stands for; itself alone when nothing is swept.

    Args:
        item: as it is written.
        aliases: other names of parts.

    Example: {"few_shot": {"k": [1, 4]}} -> [{"few_shot": {"k": 1}}, {"few_shot": {"k": 4}}].
    """
    places = _places(item, aliases)
    if not places:
        return [item]
    name, settings = next(iter(item.items()))
    found = []
    for values in product(*(_at(settings, place) for place in places)):
        one: Any = settings
        for place, value in zip(places, values, strict=True):
            one = _put(one, place, value)
        found.append({name: one})
    return found


def size(item: Any, aliases: Mapping[str, str]) -> int:
    """Return how many ladder items an item stands for.

    Example: {"few_shot": {"k": [1, 4], "selection": ["random", "balanced"]}} -> 4.
    """
    places = _places(item, aliases)
    return prod(len(_at(next(iter(item.values())), place)) for place in places)


def too_many(sizes: Sequence[int], most: int, loc: Loc) -> Fault:
    """Return the fault of a ladder of nothing or of too much, at the item that gives the most.

    Args:
        sizes: of its items.
        most: techniques that it may have.
        loc: of the ladder.
    """
    what, largest = f"'ladder' should have 1 to {most} techniques", max(sizes, default=0)
    if largest < 2:
        return Fault(loc, what, found=str(sum(sizes)))
    found = f"{sum(sizes):,}, of which this item alone gives {largest:,}"
    fix = "Lists of settings give every combination: shorten them"
    return Fault((*loc, sizes.index(largest)), what, found=found, fix=fix)


def _places(item: Any, aliases: Mapping[str, str]) -> list[Place]:
    """Return where an item has a list in the place of one value."""
    if not isinstance(item, Mapping) or len(item) != 1:
        return []
    name, settings = next(iter(item.items()))
    if not isinstance(settings, Mapping):
        return []
    parts = [aliases.get(part.strip(), part.strip()) for part in str(name).split("+")]
    return list(_lists(settings, parts))


def _lists(settings: Mapping[str, Any], parts: list[str]) -> Iterator[Place]:
    """Yield where a list stands for one value."""
    for key, value in settings.items():
        if key in parts and isinstance(value, Mapping):
            yield from ((key, *inner) for inner in _lists(value, [key]))
        elif isinstance(value, list) and value and _wants_one(key, parts):
            yield (key,)


def _wants_one(key: str, parts: list[str]) -> bool:
    infos = [info for part in parts if (info := registry.find(part)) is not None]
    kinds = [s.annotation for info in infos for s in info.settings if s.name == key]
    return bool(kinds) and not any(word in kind for kind in kinds for word in LISTS)


def _at(settings: Any, place: Place) -> Any:
    for key in place:
        settings = settings[key]
    return settings


def _put(settings: Mapping[str, Any], place: Place, value: Any) -> dict[str, Any]:
    key, *rest = place
    return {**settings, key: _put(settings[key], tuple(rest), value) if rest else value}
