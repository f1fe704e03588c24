"""The teacher of a distillation: another base, prompted as the spec says, answering the same rows.

Its answers and its odds are kept for the whole run, so that every seed and search piece asks once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch

from savile.errors import Problem, UsageError
from savile.lm.base import Base
from savile.lm.local import Local
from savile.lm.model import LM
from savile.lm.tree import Paths, build
from savile.objectives.base import Encoded, Odds, Teacher
from savile.predict import answer_limit, predict
from savile.prompts.base import Frame
from savile.types import Example, Prediction

ROWS_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """A teacher and what it has said."""

    base: Base
    frame: Frame
    """How it is asked."""
    train: Sequence[Example]
    """Rows that tell how long an answer may be."""
    said: dict[str, Prediction] = field(default_factory=dict)
    """Its answers by row id."""
    kept: dict[tuple[str, tuple[int, ...], int], Odds] = field(default_factory=dict)
    """Its odds by row id, completion and how many tokens were asked for."""

    def of(
        self, student: LM, frame: Frame
    ) -> Callable[[Sequence[Encoded], Sequence[Example]], Teacher]:
        """Return the maker of the teacher of rows that a student is asked with `frame`."""
        return lambda rows, examples: _Teacher(self, student, frame, examples)

    def ask(self, examples: Sequence[Example]) -> list[Example]:
        """Return the rows with its answers, empty where it has none, and the steps it showed."""
        new = [row for row in examples if row.id not in self.said]
        if new:
            limit = answer_limit(self.base, self.frame, self.train)
            for p in predict(self.base, self.frame, new, max_new_tokens=limit):
                self.said[p.id] = p
        return [self._answered(row, self.said[row.id]) for row in examples]

    def _answered(self, row: Example, said: Prediction) -> Example:
        place = said.text.lower().rfind(self.frame.answer_marker.lower())
        steps = said.text[:place].strip() if self.frame.reasoning and place > 0 else None
        return replace(row, output=said.answer or "", rationale=steps)

    @torch.no_grad()
    def odds(
        self, student: LM, examples: Sequence[Example], rows: Sequence[Encoded], top_k: int
    ) -> list[Odds]:
        """Return its likeliest tokens at each position of the rows' completions.

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
        keys = [(e.id, tuple(r.completion), top_k) for e, r in zip(examples, rows, strict=True)]
        nothing = Odds(torch.zeros(0, top_k, dtype=torch.int64), torch.zeros(0, top_k))
        self.kept.update((key, nothing) for key in keys if not key[1])
        new = [n for n, key in enumerate(keys) if key not in self.kept]
        for start in range(0, len(new), ROWS_AT_ONCE):
            pack = new[start : start + ROWS_AT_ONCE]
            prompts = [lm.encode_prompt(self.frame.messages(examples[n])) for n in pack]
            both = zip(prompts, pack, strict=True)
            tree = build([Paths(prompt, [rows[n].completion]) for prompt, n in both])
            found = lm.logits(tree, tree.targets.source).log_softmax(-1)
            likeliest = found.topk(min(top_k, found.shape[-1]), dim=-1)
            sizes = [len(rows[n].completion) for n in pack]
            parts = (
                torch.split(tensor.cpu(), sizes) for tensor in (likeliest.indices, likeliest.values)
            )
            for n, tokens, logprobs in zip(pack, *parts, strict=True):
                self.kept[keys[n]] = Odds(tokens.clone(), logprobs.clone())
        return [self.kept[key] for key in keys]


class _Teacher(Teacher):
    def __init__(
        self, teaching: Teaching, student: LM, frame: Frame, examples: Sequence[Example]
    ) -> None:
        self.teaching, self.student, self.frame = teaching, student, frame
        self.examples = examples

    def answers(self) -> list[str]:
        rows = self.teaching.ask(self.examples)
        return [self.frame.target(row) if row.output else "" for row in rows]

    def odds(self, rows: Sequence[Encoded], top_k: int) -> list[Odds]:
        return self.teaching.odds(self.student, self.examples, rows, top_k)
