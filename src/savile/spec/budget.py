"""The spec's sections on what techniques may spend and what things cost."""

from __future__ import annotations

from typing import Annotated, final

from pydantic import Field

from savile.spec.section import Count, Section, Usd
from savile.spec.settings import REAL, WHOLE


@final
class BudgetSection(Section):
    """What every tuned technique may spend; the same for all."""

    train_examples: Count | None = None
    """Example presentations per tuned technique, the search included."""
    seconds: Annotated[float, Field(gt=0.0, le=1e8), REAL] | None = None
    """Seconds the run is planned for, from timing a few rows: an estimate, not a hard limit."""
    search: Annotated[int, Field(ge=1, le=64), WHOLE] = 3
    """Learning rates tried per tuned technique, inside its share of the budget: with 3 or more, one
    more where the best of them is the highest or lowest; with 1, its own rate and no search."""
    search_from: Annotated[float, Field(gt=0.0, le=1e6), REAL] = 1.0
    """Where the search starts, as a multiple of each technique's own learning rate; what a spec
    sets as `learning_rate` is not searched."""
    race: Annotated[float, Field(gt=0.0, le=100.0), REAL] | None = None
    """Stop techniques early that cannot beat the best one by more than this, in the metric's unit
    (0.05 for accuracy); each family keeps one whole technique, a judge's opponent is kept, and
    what is stopped has no test score. Absent: every technique gets its whole budget."""
    dev_rows: Count | None = None
    """At most this many dev rows, chosen by their hash: every technique answers them often."""
    test_rows: Count | None = None
    """At most this many test rows, chosen by their hash."""
    usd: Usd | None = None
    """What the run may pay endpoints; it stops before it would pay more, and can go on later."""


@final
class PricesSection(Section):
    """What things cost, in USD; what is not given costs nothing and is not shown."""

    label: Usd | None = None
    """One labelled example."""
    cpu_hour: Usd | None = None
    """An hour of this machine without a GPU."""
    gpu_hour: Usd | None = None
    """An hour of this machine with its GPU."""
