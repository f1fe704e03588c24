"""Distillation by text: the student is fine-tuned on what the teacher answers.

    L = - sum_t log p(y_t | x, y_<t) / T,    y = the teacher's own answer to x

Source: Kim & Rush 2016, arXiv 1606.07947, section 3.2 (sequence-level distillation); the teacher's
greedy answer stands for its mode. The wanted answers of the rows are not looked at. Where the
student is asked for steps, it learns the teacher's steps, if it showed any, before the answer.

Any model that answers can teach, another vocabulary or an endpoint included.

Cost: one answer of the teacher a row before the first step; then that of SFT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from savile.lm.model import LM
from savile.objectives.base import Encoded, TrainingData
from savile.objectives.base_rows import FromRows


@final
@dataclass(frozen=True, kw_only=True)
class DistillText(FromRows):
    """Learn a teacher's answers."""

    needs: ClassVar[tuple[str, ...]] = ("pairs", "teacher", "parameters")
    gives: ClassVar[tuple[str, ...]] = ("policy",)

    def items(self, lm: LM, data: TrainingData) -> list[Encoded]:
        """Return the rows with the teacher's answers, asked once; rows it leaves empty are left
        out."""
        if data.teacher is None:
            raise ValueError("this objective needs a teacher")
        answers = data.teacher.answers()
        return [
            Encoded(row.prompt, lm.encode_completion(answer))
            for row, answer in zip(data.rows, answers, strict=True)
            if answer.strip()
        ]
