"""What a judge's figures mean, in sentences: what to be careful about, and when not to believe it.

A figure is called out when its whole interval lies beyond what a fair judge would have; a judge
whose agreement with what is known may be none (kappa's interval reaches 0) cannot tell.
"""

from __future__ import annotations

from typing import Final

from savile.judge.bias import Bias
from savile.judge.itself import CARE
from savile.judge.obedience import Obedience
from savile.stats import Interval

CANNOT_TELL: Final = ": this judge cannot tell"
STEADY: Final = 0.5
"""Share of pairs with the same verdict in both orders below which the orders decide most."""
TURNED: Final = 0.05
"""Share of verdicts that may be turned, less those turned back, before it is called out."""


def percent(found: Interval) -> str:
    """Return a share with its limits: `63 % [58, 68]`."""
    return f"{100 * found.score:.0f} % [{100 * found.low:.0f}, {100 * found.high:.0f}]"


def number(found: Interval) -> str:
    """Return a coefficient with its limits: `0.02 [-0.10, 0.14]`."""
    return f"{found.score:.2f} [{found.low:.2f}, {found.high:.2f}]"


def of_bias(bias: Bias) -> list[str]:
    """Return what the verdicts say about order, length and readability."""
    said = []
    if bias.first is not None:
        unfair = bias.first.low > 0.5 or bias.first.high < 0.5
        said.append(
            f"It prefers the first answer in {percent(bias.first)} of its choices"
            f"{CARE if unfair else ''}."
        )
    if bias.consistent is not None:
        unsteady = bias.consistent.low < STEADY
        said.append(
            f"Both orders of a pair have the same verdict in {percent(bias.consistent)}; the "
            f"others count as ties{CARE if unsteady else ''}."
        )
    if bias.longer is not None:
        partial = bias.longer.low > 0.5 or bias.longer.high < 0.5
        how = bias.with_length
        strength = "" if how is None else f" (correlation with length {number(how)})"
        said.append(
            f"The longer answer wins {percent(bias.longer)} of decided pairs{strength}"
            f"{CARE if partial else ''}."
        )
    if bias.unread is not None and bias.unread.score > 0:
        said.append(f"No verdict could be read in {percent(bias.unread)} of its answers.")
    return said


def of_obedience(found: Obedience) -> list[str]:
    """Return what the made pairs say."""
    said = []
    if found.right is not None and found.kappa is not None:
        doubt = CANNOT_TELL if found.kappa.low <= 0 else ""
        said.append(
            f"On made pairs with a known better answer it is right in {percent(found.right)} of "
            f"its answers, kappa {number(found.kappa)}{doubt}."
        )
    for what, turned, shift in (
        ("Empty text behind the worse answer", found.turned_by_length, found.shift_by_length),
        ("An instruction inside the worse answer", found.turned, found.shift),
    ):
        if turned is not None and shift is not None:
            care = CARE if shift.low > TURNED else ""
            said.append(f"{what} turns {percent(turned)} of its verdicts{care}.")
    return said


def of_people(n: int, agreement: Interval | None, kappa: Interval | None, unread: int = 0) -> str:
    """Return how far verdicts are those of people.

    Args:
        n: pairs that people judged; 0 when none were given.
        agreement: share of equal verdicts.
        kappa: agreement beyond chance.
        unread: pairs whose verdict could not be read; they agree with nobody.
    """
    if agreement is None:
        return (
            "Nobody knows whether people would agree with it: judge.human_labels takes pairs that "
            "people judged."
        )
    told = f"It agrees with people on {percent(agreement)} of {n} pairs"
    told += f" ({unread} unread count as no agreement)" if unread else ""
    if kappa is None:
        return f"{told}; kappa cannot be told, since all verdicts are the same."
    doubt = CANNOT_TELL if kappa.low <= 0 else ""
    return f"{told}, kappa {number(kappa)}{doubt}."
