"""What a model has computed, counted as it computes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(kw_only=True)
class Work:
    """What has been computed so far; FLOPs follow from it (see `meter.py`)."""

    tokens: int = 0
    """Token positions that went through the trunk (tree tokens, forward)."""
    predictions: int = 0
    """Positions that went through the output head."""
    separate_tokens: int = 0
    """Tokens the same work takes as separate sequences: what throughput counts."""
    recalled: int = 0
    """Products of positions and parameters that were left out, because what those parameters give
    at those positions was known."""
    rows_at_once: int | None = None
    """The most prompts that were answered together after memory ran out; None where it did not."""
