"""What a row should say of trainings that collapsed and went on with a lower learning rate."""

from __future__ import annotations

from collections.abc import Sequence

from savile.ladder.folder import Unit
from savile.train import HAS_COLLAPSED


def note(trials: Sequence[Unit]) -> str | None:
    """Return with how many seeds that happened and how low the rate went, in words; None if with
    none."""
    histories = [trial.result.get("history") or () for trial in trials]
    events = [[e for e in history if e.get("why") == HAS_COLLAPSED] for history in histories]
    hit = [of_one for of_one in events if of_one]
    if not hit:
        return None
    seeds = "" if len(trials) == 1 else f" with {len(hit)} of {len(trials)} seeds"
    lowest = min(e["slowdown"] for of_one in hit for e in of_one)
    return (
        f"its training collapsed{seeds} and went on from its best state at {lowest:.3g} of the "
        "learning rate"
    )
