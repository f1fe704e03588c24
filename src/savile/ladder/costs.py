"""What a row costs: labels and training once, a thousand requests, and what ranks the tied.

usd_once = labels_used x label + hours of search and training x price of an hour
usd_per_1000 = hours of prediction / n_test x 1000 x price of an hour        weights here
usd_per_1000 = mean over requests of the USD the endpoint takes x 1000       behind an API
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from savile.ladder.verdict import Costs
from savile.spec import Spec
from savile.types import BoardRow, Prediction

COUNTED: Final = {
    (False, False): "FLOPs for training and the first 1,000 requests",
    (True, False): "USD for labels",
    (False, True): "USD for training and the first 1,000 requests",
    (True, True): "USD for labels, training and the first 1,000 requests",
}
"""What a cost is made of, by whether a label and the work have a price."""
TOKENS: Final = "tokens of the first 1,000 requests"
"""What it is made of where nothing has a price and nobody knows the size of the base."""


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What a label and an hour of this machine cost, in USD; None when not given."""

    label: float | None = None
    hour: float | None = None

    def once(self, labels: int, seconds: float) -> float | None:
        """Return the USD of labels and of seconds of search and training."""
        if self.label is None and self.hour is None:
            return None
        return labels * (self.label or 0.0) + seconds / 3600 * (self.hour or 0.0)

    def per_1000(self, seconds_per_row: float) -> float | None:
        """Return the USD of a thousand requests that this machine answers."""
        return None if self.hour is None else seconds_per_row * 1000 / 3600 * self.hour


def prices_of(spec: Spec, device: str) -> Prices:
    """Return the spec's prices for the device the run used."""
    given = spec.prices
    if given is None:
        return Prices()
    return Prices(label=given.label, hour=given.cpu_hour if device == "cpu" else given.gpu_hour)


def of_local(
    prices: Prices, labels: int, trained_seconds: float, row_seconds: float
) -> dict[str, Any]:
    """Return the money of a row that this machine trained and answered."""
    once = prices.once(labels, trained_seconds)
    return {"usd_once": once, "usd_per_1000": prices.per_1000(row_seconds)}


def of_remote(prices: Prices, labels: int, answers: Sequence[Prediction]) -> dict[str, Any]:
    """Return the money of a row that an endpoint answered; its hours cost nothing here."""
    paid = [answer.usd for answer in answers if answer.usd is not None]
    if len(paid) < len(answers):
        label = prices.label
        return {"usd_once": None if label is None else labels * label, "usd_per_1000": None}
    return {"usd_once": labels * (prices.label or 0.0), "usd_per_1000": fmean(paid) * 1000}


def costs_of(rows: Sequence[BoardRow], prices: Prices) -> Costs:
    """Return what ranks the tied, and what it is made of."""
    asked = any(row.remote and row.usd_per_1000 is not None for row in rows)
    counted = COUNTED[prices.label is not None, prices.hour is not None or asked]
    measured = [row for row in rows if row.score is not None and row.kind != "baseline"]
    sized = all(row.base_parameters for row in measured)
    if not sized and counted == COUNTED[False, False]:
        counted = TOKENS
    return Costs(counted, {row.technique: cost_of(row, sized=sized) for row in rows})


def cost_of(row: BoardRow, *, sized: bool = True) -> float:
    """Return USD once and for 1,000 requests where there are prices, else FLOPs, else tokens.

    FLOPs (2 per parameter and token) and not seconds, so that the same run says the same again.
    """
    if row.usd_once is not None:
        return row.usd_once + (row.usd_per_1000 or 0.0)
    tokens = (row.prompt_tokens or 0.0) + (row.completion_tokens or 0.0)
    per_token = 2 * row.base_parameters if sized else 1
    return row.train_flops + 1000 * per_token * tokens
