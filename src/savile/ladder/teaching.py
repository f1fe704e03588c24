"""The teacher of a distillation: another base, prompted as the spec says, answering the same rows.

Its answers and its odds are kept for the whole run, so that every seed and search piece asks once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from savile.errors import Problem, UsageError
from savile.lm.base import Base
from savile.lm.local import Local
from savile.lm.model import LM
from savile.lm.tree import Paths, build
from savile.objectives.base import Encoded, Teacher
from savile.predict import answer_limit, predict
from savile.prompts.base import Frame
from savile.types import Example

ROWS_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """A teacher and what it has said."""

    base: Base
    frame: Frame
    """How it is asked."""
    train: Sequence[Example]
    """Rows that tell how long an answer may be."""
    said: dict[str, str] = field(default_factory=dict)
    """Its answers by row id."""
    odds: dict[tuple[str, tuple[int, ...]], Tensor] = field(default_factory=dict)
    """Log-probabilities by row id and completion, float16 [T, V]."""

    def of(self, student: LM) -> Callable[[Sequence[Encoded], Sequence[Example]], Teacher]:
        """Return the maker of the teacher of a student's rows."""
        return lambda rows, examples: _Teacher(self, student, examples)

    def ask(self, examples: Sequence[Example]) -> list[str]:
        """Return its answers."""
        new = [row for row in examples if row.id not in self.said]
        if new:
            limit = answer_limit(self.base, self.frame, self.train)
            for p in predict(self.base, self.frame, new, max_new_tokens=limit):
                self.said[p.id] = p.answer or ""
        return [self.said[row.id] for row in examples]

    @torch.no_grad()
    def logprobs(
        self, student: LM, examples: Sequence[Example], rows: Sequence[Encoded]
    ) -> list[Tensor]:
        """Return log p of every token at each position of the rows' completions, [T, V] each.

        Raises:
            UsageError: the teacher's tokens are not the student's, or are out of reach.
        """
        lm = self.base.lm if isinstance(self.base, Local) else None
        if lm is None or lm.tokenizer.get_vocab() != student.tokenizer.get_vocab():
            raise UsageError(
                Problem(
                    what="the teacher does not share the base's vocabulary",
                    where="teacher",
                    found=self.base.name,
                    fix="Use distill_text, which learns from its answers",
                )
            )
        keys = [(e.id, tuple(r.completion)) for e, r in zip(examples, rows, strict=True)]
        new = [n for n, key in enumerate(keys) if key not in self.odds]
        for start in range(0, len(new), ROWS_AT_ONCE):
            pack = new[start : start + ROWS_AT_ONCE]
            prompts = [lm.encode_prompt(self.frame.messages(examples[n])) for n in pack]
            both = zip(prompts, pack, strict=True)
            tree = build([Paths(prompt, [rows[n].completion]) for prompt, n in both])
            found = lm.logits(tree, tree.targets.source).log_softmax(-1).half().cpu()
            sizes = [len(rows[n].completion) for n in pack]
            for n, part in zip(pack, torch.split(found, sizes), strict=True):
                self.odds[keys[n]] = part.clone()
        return [self.odds[key].float() for key in keys]


class _Teacher(Teacher):
    def __init__(self, teaching: Teaching, student: LM, examples: Sequence[Example]) -> None:
        self.teaching, self.student, self.examples = teaching, student, examples

    def answers(self) -> list[str]:
        return self.teaching.ask(self.examples)

    def logprobs(self, rows: Sequence[Encoded]) -> list[Tensor]:
        return self.teaching.logprobs(self.student, self.examples, rows)
