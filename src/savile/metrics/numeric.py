"""Numeric answer: the share of rows whose last number is the reference's last number.

    right = |x - y| <= tolerance * |y|      x, y the last numbers of answer and reference

Source: Cobbe et al. 2021, arXiv 2110.14168 (GSM8K), where the answer follows `####`; if the mark
occurs, the first number after its last occurrence is taken. Read are signs (also a Unicode minus),
thousands separators (`1,234`), decimals (`.5`, `42.`), exponents (`1e3`); numbers are compared as
exact decimals, so 42, 42.0 and +42 are equal. A decimal comma is not read as one. A reference
without a number must be matched as text.

Cost: one regular expression a text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, ClassVar, final

from annotated_types import Ge, Le

from savile.metrics.base import Array, Metric, matches, mean_of_rows, ratio

NUMBER = re.compile(
    r"(?:(?<![\w.])[-+]\s?|(?<![\w.])[-+]?[$€£]\s?[-+]?)?"  # a sign, a currency, both
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3}(?!\w))?"
    r"|(?:(?<![\w.])[-+])?(?<![\d.])\.\d+"
)
MARK = "####"


@final
@dataclass(frozen=True, kw_only=True)
class Numeric(Metric):
    """Share of answers whose last number is right, 0 to 1."""

    needs: ClassVar[tuple[str, ...]] = ("text",)
    binary: ClassVar[bool] = True

    tolerance: Annotated[float, Ge(0), Le(1)] = 0.0
    """Largest relative error that still counts as right; 0 wants the exact decimal."""

    def statistics(
        self,
        answers: Sequence[str | None],
        references: Sequence[Sequence[str]],
        labels: Sequence[str],
    ) -> Array:
        """Return (right, 1) a row: float64 [N, 2]."""
        return mean_of_rows(
            [
                float(answer is not None and any(self._right(answer, r) for r in accepted))
                for answer, accepted in zip(answers, references, strict=True)
            ]
        )

    def aggregate(self, total: Array) -> Array:
        """Return right / n."""
        return ratio(total)

    def _right(self, answer: str, reference: str) -> bool:
        wanted, got = last_number(reference), last_number(answer)
        if wanted is None:
            return matches(answer, [reference])
        return got is not None and abs(got - wanted) <= abs(wanted) * Decimal(str(self.tolerance))


def last_number(text: str) -> Decimal | None:
    """Return the number a text ends on, for example `so 3 x 14 = $1,042.50.` -> 1042.50."""
    _, mark, tail = text.replace("\N{MINUS SIGN}", "-").rpartition(MARK)
    found = NUMBER.findall(tail)
    if not found:
        return None
    chosen = found[0] if mark else found[-1]
    return Decimal(re.sub(r"[\s,$€£]", "", chosen))
