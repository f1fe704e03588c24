"""What prompts show: training rows alone, checked for every prompt, and their hash for the record.

Source: a demonstration that is a test item is a known failure of evaluation harnesses
(lm-evaluation-harness issues 4145 and 4168). Cost: a set look-up for each example of each prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

from savile import store
from savile.prompts.base import Frame
from savile.types import Example


def check_shown(frame: Frame, train: Sequence[Example], questions: Sequence[Example]) -> None:
    """Assert that the prompt of every question shows nothing but training rows.

    Args:
        frame: with the neighbors of `questions` looked up.
        train: the rows that may be shown.
        questions: rows of dev or test.
    """
    allowed = {(row.id, row.input, row.output) for row in train}
    for question in questions:
        for row in frame.shown(question):
            if (row.id, row.input, row.output) not in allowed:
                raise AssertionError(f"row {row.id} is shown and is no training row")


def shown_record(frame: Frame) -> dict[str, object]:
    """Return what identifies the rows that a frame may show: how many, and their sha256."""
    rows = frame.examples
    content = [[row.id, row.input, row.output, row.rationale] for row in rows]
    return {"n": len(rows), "sha256": store.sha256(store.dump_json(content))} if rows else {}
