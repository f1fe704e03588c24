"""What every part of a spec is made of: a frozen section, numbers and texts with their limits."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from savile.spec.settings import REAL, WHOLE

MAX_ROWS = 100_000_000
MAX_USD = 1e9
Count = Annotated[int, Field(ge=1, le=MAX_ROWS), WHOLE]
Usd = Annotated[float, Field(ge=0.0, le=MAX_USD), REAL]
Text = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """A part of the spec: frozen, unknown keys refused, numbers finite."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
