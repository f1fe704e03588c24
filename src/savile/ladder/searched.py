"""What a row says of a search over prompts: which was taken, from how many, and the gain that is
left when having picked the best is allowed for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter

from savile.prompts.base import Frame
from savile.prompts.base_searched import Searched

Results = Sequence[Mapping[str, Any]]
READS = TypeAdapter(Searched)


def record(frame: Frame) -> dict[str, Any]:
    """Return what a trial's result keeps of the search that made its frame; nothing without one."""
    return {} if frame.searched is None else {"searched": asdict(frame.searched)}


def settings(trials: Results) -> dict[str, Any]:
    """Return what the searches of a row's seeds chose, for its settings."""
    found = _found(trials)
    if not found:
        return {}
    return {
        "searched": {
            "won": [one.won for one in found],
            "candidates": len(found[0].tried),
            "rows": [one.rows for one in found],
            "scored": [one.scored for one in found],
        }
    }


def notes(trials: Results) -> list[str]:
    """Return the searches of a row in words; seeds that found the same share a line."""
    told: dict[str, list[str]] = {}
    for seed, one in enumerate(_found(trials)):
        told.setdefault(one.told(), []).append(str(seed))
    return [f"searched, seed {', '.join(seeds)}: {line}" for line, seeds in told.items()]


def _found(trials: Results) -> list[Searched]:
    return [READS.validate_python(trial["searched"]) for trial in trials if "searched" in trial]
