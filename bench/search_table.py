"""Tables of the prompt search: simulated searches, and what it gains on sealed tests."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from board_table import lines

Record = dict[str, Any]


def simulated(records: list[Record]) -> str:
    """Return how often the limits of a search hold the true gain of what it picked."""
    found = [r for r in records if r["kind"] == "search"]
    rows = [
        "| better rival | rivals | rows that may judge | a row's score | coverage "
        "| picking ignored | gain claimed as sure | it was picked | mean claim | mean true gain |",
        "|---|--:|--:|---|" + "--:|" * 6,
    ]
    for r in found:
        planted = f"+{r['planted']:.2f}" if r["planted"] else "none"
        kind = "right or wrong" if r["right_or_wrong"] else "probability"
        picked = f"{r['found']:.1%}" if r["planted"] else ""
        rows.append(
            f"| {planted} | {r['rivals']} | {r['rows']} | {kind} | {r['coverage']:.1%} "
            f"| {r['plain_coverage']:.1%} | {r['sure']:.1%} | {picked} "
            f"| {r['claimed_gain']:+.3f} | {r['true_gain']:+.3f} |"
        )
    return lines(rows) if found else ""


def gained(records: list[Record]) -> str:
    """Return what searches claimed on their rows, and what the sealed test says."""
    found = [r for r in records if r["kind"] == "gain"]
    rows = [
        "| case | technique | prompts | claimed on the rows that chose, by seed "
        "| score without | with | difference on the test |",
        "|---|---|--:|---|--:|--:|---|",
    ]
    for r in found:
        claimed = ", ".join(
            f"{one['gain']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]" for one in r["searches"]
        )
        plain, searched = (fmean(scores) for scores in r["scores"])
        test = r["test"]
        rows.append(
            f"| {r['case']} | {r['searched']} | {r['searches'][0]['candidates']} | {claimed} "
            f"| {plain:.3f} | {searched:.3f} "
            f"| {test['value']:+.3f} [{test['low']:+.3f}, {test['high']:+.3f}] |"
        )
    return lines(rows) if found else ""
