"""Candidates, frames and results as the JSON of a run folder, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from pydantic import TypeAdapter

from savile import store
from savile.prompts.base import Frame
from savile.spec import Candidate

FRAME: Final = TypeAdapter(Frame)
"""Reads a frame by the types of its fields, whichever they are."""


def finite(value: Any) -> Any:
    """Return a JSON value with None for every number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return value


def candidate_json(candidate: Candidate) -> dict[str, Any]:
    """Return a candidate as JSON values."""
    return {**asdict(candidate), "needs": sorted(candidate.needs)}


def frame_json(frame: Frame) -> bytes:
    """Return the frame as the bytes of frame.json: the whole prompt of a technique."""
    return store.dump_json(asdict(frame))


def frame_from_json(data: bytes) -> Frame:
    """Return the frame that `frame_json` wrote."""
    return FRAME.validate_json(data, strict=True)


def candidate_from_json(parts: Mapping[str, Any]) -> Candidate:
    """Return the candidate that `candidate_json` gave."""
    chains = {
        axis: tuple((name, settings) for name, settings in parts[axis])
        for axis in ("prompts", "deltas", "objectives")
    }
    return Candidate(**{**parts, **chains, "needs": frozenset(parts["needs"])})
