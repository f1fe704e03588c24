"""Candidates and frames as the JSON of a run folder, and back."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from savile import store
from savile.prompts.base import Frame
from savile.spec import Candidate
from savile.types import Example


def candidate_json(candidate: Candidate) -> dict[str, Any]:
    """Return a candidate as JSON values."""
    return {**asdict(candidate), "needs": sorted(candidate.needs)}


def frame_json(frame: Frame) -> bytes:
    """Return the frame as the bytes of frame.json: the whole prompt of a technique."""
    return store.dump_json(asdict(frame))


def frame_from_json(data: bytes) -> Frame:
    """Return the frame that `frame_json` wrote."""
    fields = json.loads(data)
    shown = [
        Example(**{**e, "references": tuple(e["references"])}) for e in fields["demonstrations"]
    ]
    fields |= {"demonstrations": tuple(shown), "labels": tuple(fields["labels"])}
    return Frame(**fields)
