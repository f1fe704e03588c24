"""What to say about rows that an endpoint answered: doubts, cut answers, retries, names.

Every unit keeps the tally of its requests (`endpoint` in its result), so that a board says the same
after a run was interrupted as without.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

Results = Sequence[Mapping[str, Any]]
SUMS: Final = ("requests", "answers", "cached", "retries", "waited_seconds")
"""What a board adds up over all units."""


def notes(measured: Results) -> list[str]:
    """Return what to know about the score and the cost of a row, from its units on the test."""
    tallies = _tallies(measured)
    found = _sum(tallies, ("answers", "cut", "filtered", "by_logprobs"))
    doubts: Counter[str] = Counter()
    for tally in tallies:
        doubts.update(tally["doubts"])
    said = [
        f"{times} of {found['answers']} answers came with a usage that cannot be true ({doubt}); "
        "the most they can have cost is counted"
        for doubt, times in sorted(doubts.items())
    ]
    if found["cut"]:
        said.append(f"{found['cut']} answers were cut (base.max_tokens gives them more room)")
    if found["filtered"]:
        said.append(f"{found['filtered']} questions were refused by a filter: counted as wrong")
    if found["by_logprobs"]:
        said.append(f"{found['by_logprobs']} labels were read from log-probabilities")
    return said


def summary(units: Iterable[Results], usd: float) -> dict[str, Any] | None:
    """Return the requests of a whole run for its board; None where nothing was asked.

    Args:
        units: results of every unit, by technique.
        usd: what the run paid.
    """
    tallies = [tally for results in units for tally in _tallies(results)]
    if not tallies:
        return None
    names = sorted({name for tally in tallies for name in tally["answered_as"]})
    return {**_sum(tallies, SUMS), "answered_as": names, "usd_paid": usd}


def _tallies(results: Results) -> list[Mapping[str, Any]]:
    return [result["endpoint"] for result in results if "endpoint" in result]


def _sum(tallies: Results, names: Sequence[str]) -> dict[str, Any]:
    return {name: sum(tally.get(name, 0) for tally in tallies) for name in names}
