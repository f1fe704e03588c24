r"""Regular expression: the share of rows where a pattern finds the same in answer and reference.

    right = (last match of pattern in answer) equals (last match in reference)

Source: the definition, after the `regex` filters of the LM Evaluation Harness. What is compared is
the first group of the last match, or the whole match when the pattern has no group: `Answer:
(\w+)`. A reference in which the pattern finds nothing is compared as it stands, stripped.

Cost: one search a text; the pattern comes from the spec's author and is trusted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from savile.errors import Problem, UsageError
from savile.metrics.base import Array, Metric, mean_of_rows, ratio


@final
@dataclass(frozen=True, kw_only=True)
class Regex(Metric):
    """Share of answers in which the pattern finds what it should, 0 to 1."""

    needs: ClassVar[tuple[str, ...]] = ("text",)
    binary: ClassVar[bool] = True

    pattern: str
    """A Python regular expression; its first group, if any, is what is compared."""
    ignore_case: bool = False
    """Whether upper and lower case are the same."""

    def __post_init__(self) -> None:
        """Refuse a pattern that does not compile, with its place."""
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise UsageError(
                Problem(
                    where="metric.regex.pattern",
                    what=f"not a regular expression: {error}",
                    found=repr(self.pattern),
                    fix="Correct the pattern; in YAML put it in single quotes.",
                )
            ) from error

    def statistics(
        self,
        answers: Sequence[str | None],
        references: Sequence[Sequence[str]],
        labels: Sequence[str],
    ) -> Array:
        """Return (right, 1) a row: float64 [N, 2]."""
        return mean_of_rows(
            [
                float(self._right(answer, accepted))
                for answer, accepted in zip(answers, references, strict=True)
            ]
        )

    def aggregate(self, total: Array) -> Array:
        """Return right / n."""
        return ratio(total)

    def _right(self, answer: str | None, references: Sequence[str]) -> bool:
        found = None if answer is None else self._find(answer)
        wanted = {w if (w := self._find(r)) is not None else self._fold(r) for r in references}
        return found is not None and found in wanted

    def _find(self, text: str) -> str | None:
        matches = list(re.finditer(self.pattern, text, re.IGNORECASE if self.ignore_case else 0))
        if not matches:
            return None
        last = matches[-1]
        return self._fold((last.group(1) if last.re.groups else last.group(0)) or "")

    def _fold(self, text: str) -> str:
        return text.strip().casefold() if self.ignore_case else text.strip()
