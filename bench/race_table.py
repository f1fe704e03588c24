"""Tables of the race: what replays saved and lost, and what happens in made worlds."""

from __future__ import annotations

from typing import Any

from board_table import lines

Record = dict[str, Any]


def replays(records: list[Record]) -> str:
    """Return what races on score matrices came to beside the uniform allocation."""
    found = [r for r in records if r["kind"] == "replays"]
    rows = [
        "| case, ladder | techniques (families) | dev rows | margin | winner or a tie kept "
        "| mean regret | largest | trained tokens | answered rows | stopped | of them wrong |",
        "|---|---|" + "--:|" * 9,
    ]
    for r in found:
        rows.append(
            f"| {r['task']}, {r['ladder']} | {r['techniques']} ({r['families']}) | {r['dev']} "
            f"| {r['margin']:g} | {r['kept']:.0%} | {r['regret']:.3f} | {r['largest_regret']:.3f} "
            f"| {r['tokens']:.0%} | {r['answers']:.0%} | {r['stopped']:.1f} | {r['wrong']:.1%} |"
        )
    return lines(rows) if found else ""


def worlds(records: list[Record]) -> str:
    """Return how often races say what is not so, and what they do where curves cross."""
    chance = [r for r in records if r["kind"] == "chance"]
    crossing = [r for r in records if r["kind"] == "crossing"]
    rows = [
        "| score of all | one of equals called worse | one that is better by 0.06 stopped |",
        "|--:|--:|--:|",
        *(
            f"| {r['score']:g} | {r['called_worse']:.1%} | {r['better_stopped']:.1%} |"
            for r in chance
        ),
        "",
        "| late gain of the winner, times that of the others | behind the best start by "
        "| stopped | whole runs of all |",
        "|--:|--:|--:|--:|",
        *(
            f"| {r['times']:g} | {r['start_gap']:+.2f} | {r['stopped']:.1%} "
            f"| {r['whole_runs']:.0%} |"
            for r in crossing
        ),
    ]
    return lines(rows) if chance else ""
