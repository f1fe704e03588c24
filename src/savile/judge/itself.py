"""Whether a judge reads answers of its own, in a sentence: known from the spec alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from savile.spec.endpoint import EndpointSection, same_model, short_name
from savile.spec.judge import JudgeSection

CARE: Final = ": treat with care"


def itself(judge: JudgeSection | None, bases: Sequence[str | EndpointSection]) -> list[str]:
    """Return what to know where a judge reads answers of its own; nothing else.

    Source: Panickssery, Bowman and Feng 2024, arXiv 2404.13076 (models recognize and favor what
    they wrote themselves).

    Args:
        judge: of the spec.
        bases: those of the ladder.
    """
    if judge is None or not any(same_model(judge.base, base) for base in bases):
        return []
    name = short_name(judge.base)
    return [f"It judges answers of {name}, itself: models favor what they wrote{CARE}."]
