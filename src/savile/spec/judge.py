"""A model that compares answers in pairs, beside the metric and never instead of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, final

from pydantic import Field

from savile.spec.endpoint import Base, decisive
from savile.spec.faults import Fault, Loc, nearest, one_of
from savile.spec.names import without_settings
from savile.spec.section import Section, Text
from savile.spec.settings import WHOLE

REFERENCE: Final = "reference"
CRITERION: Final = "Which answer is the more correct and helpful one?"
PLACE: Final[Loc] = ("judge", "against")


@final
class JudgeSection(Section):
    """A model that compares the answers of every technique with those of one opponent."""

    base: Base
    """Its base: `embedded-large`, a folder, a Hugging Face id, or an endpoint."""
    criterion: Text = CRITERION
    """What makes an answer the better one, as a question."""
    against: Text = REFERENCE
    """The opponent: `reference` for the wanted answers, or a technique of the ladder by its name on
    the board."""
    human_labels: Text | None = None
    """File of pairs that people judged: input, answer_a, answer_b, label (a, b or tie)."""
    rows: Annotated[int, Field(ge=1, le=1_000_000), WHOLE] = 200
    """At most this many test rows are judged, chosen by their hash."""

    @property
    def decisive(self) -> dict[str, Any]:
        """What can change a verdict, as plain JSON-able values."""
        return {**self.model_dump(mode="json"), "base": decisive(self.base)}

    def opponent(self, names: Sequence[str]) -> str | None:
        """Return the technique that is the opponent, None for the wanted answers.

        Args:
            names: of every technique on the board, one of which it is (`fault` is None).
        """
        return None if self.against == REFERENCE else self._called(names)[0]

    def fault(self, names: Sequence[str]) -> Fault | None:
        """Return what is wrong with the opponent's name, None when it is one technique's."""
        found = [] if self.against == REFERENCE else self._called(names)
        if self.against == REFERENCE or len(found) == 1:
            return None
        if found:
            what = f"several techniques are called '{self.against}'"
            return Fault(PLACE, what, expected=f"one of {one_of(found)}")
        hint = nearest(self.against, [*names, REFERENCE])
        expected = "" if hint else f"{REFERENCE}, or one of {one_of(names)}"
        what = f"no technique of the ladder is called '{self.against}'{hint}"
        return Fault(PLACE, what, expected=expected)

    def _called(self, names: Sequence[str]) -> list[str]:
        if self.against in names:
            return [self.against]
        return [name for name in names if without_settings(name) == self.against]
