"""JSON fields: the share of the wanted fields that the answer's JSON object has right.

    row = |fields equal in both| / |fields of either|    (or / |fields| when `fields` names them)

Source: the definition; a field that was not asked for counts against the answer. The first JSON
object in the text is read, so a code fence or a sentence around it does no harm. Values are equal
as JSON values: 1 equals 1.0, true does not equal 1, the order of keys does not matter. An answer
without an object scores 0.

Cost: one JSON parse a text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

from savile.metrics.base import Array, Metric, mean_of_rows, ratio


@final
@dataclass(frozen=True, kw_only=True)
class JsonFields(Metric):
    """Mean share of right fields, 0 to 1."""

    needs: ClassVar[tuple[str, ...]] = ("text",)

    fields: tuple[str, ...] = ()
    """The fields that count; empty means all fields of answer and reference."""

    def statistics(
        self,
        answers: Sequence[str | None],
        references: Sequence[Sequence[str]],
        labels: Sequence[str],
    ) -> Array:
        """Return (best share, 1) a row: float64 [N, 2]."""
        return mean_of_rows(
            [
                0.0 if answer is None else max(self._share(answer, r) for r in accepted)
                for answer, accepted in zip(answers, references, strict=True)
            ]
        )

    def aggregate(self, total: Array) -> Array:
        """Return the mean over rows."""
        return ratio(total)

    def _share(self, answer: str, reference: str) -> float:
        got, wanted = first_object(answer), first_object(reference)
        if got is None or wanted is None:
            return float(got is None and wanted is None and answer.strip() == reference.strip())
        names = set(self.fields) or got.keys() | wanted.keys()
        right = sum(same(got.get(n, ...), wanted.get(n, ...)) for n in names)
        return right / len(names) if names else 1.0


def first_object(text: str) -> dict[str, Any] | None:
    """Return the first JSON object of a text, None when there is none."""
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        try:
            value: dict[str, Any] = decoder.raw_decode(text, start)[0]
            return value
        except RecursionError:
            return None
        except ValueError:
            start = text.find("{", start + 1)
    return None


def same(a: object, b: object) -> bool:
    """Return whether two JSON values are equal, true and 1 being different."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b and isinstance(a, bool) == isinstance(b, bool)
