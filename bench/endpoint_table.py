"""The tables of a base behind an API: an independent server, and one that misbehaves."""

from __future__ import annotations

from typing import Any

from board_table import lines, one

Record = dict[str, Any]
WAYS = ("answered", "429", "500", "stall", "cut", "no JSON")


def served(results: dict[str, list[Record]]) -> str:
    """Return the table of answers through our own loading and through an independent server."""
    rows = [
        "| case | technique | same answers | same prompt tokens | score, ours and served "
        "| median request, ours and served | served, USD per 1,000 |",
        "|---|---|--:|--:|---|---|--:|",
    ]
    for name in sorted(name for name in results if name.startswith("served-")):
        record = one(results[name], "served")
        for found in record["techniques"]:
            scores = " ".join(f"{score:.3f}" for score in found["scores"])
            seconds = " ".join(f"{1000 * s:.0f} ms" for s in found["latency_p50_seconds"])
            n = found["rows"]
            rows.append(
                f"| {record['case']} | {found['technique']} | {found['same_answers']} of {n} "
                f"| {found['same_prompt_tokens']} of {n} | {scores} | {seconds} "
                f"| {found['usd_per_1000']:.4f} |"
            )
    return lines(rows)


def rough(records: list[Record]) -> str:
    """Return what each command against a misbehaving server left behind."""
    if not records:
        return ""
    heads = ("command", "exit", *WAYS, "USD paid", "of it failed", "answers kept", "rows answered")
    rows = [f"| {' | '.join(heads)} |", "|---|" + "--:|" * (len(heads) - 1)]
    for step in (record for record in records if record["kind"] == "step"):
        did = [str(step["server"].get(way, 0)) for way in WAYS]
        answered = ", ".join(
            f"{row['technique']} {row['n']} ({row['score']:.3f})" for row in step["rows"]
        )
        cells = [step["step"], str(step["exit_code"]), *did, f"{step['usd_paid']:.4f}"]
        cells += [f"{step['usd_failed']:.4f}", str(step["answers_kept"]), answered or "no board"]
        rows.append(f"| {' | '.join(cells)} |")
    return lines(rows)
