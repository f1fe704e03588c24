"""Boards as Markdown: the rows, what was measured beside the score, the verdict, the seconds."""

from __future__ import annotations

from typing import Any

from savile.report import beside, reading

Record = dict[str, Any]


def boards(results: dict[str, list[Record]]) -> str:
    """Return every kept board, one section each."""
    names = sorted(name for name in results if name.startswith("board-"))
    return "\n".join(board(results[name]) for name in names)


def board(records: list[Record]) -> str:
    """Return one board with its verdict and what its parts took."""
    if not records:
        return ""
    about = one(records, "about")
    found = [r for r in records if r["kind"] == "row"]
    scored = sorted((r for r in found if r["score"] is not None), key=lambda r: -r["score"])
    rows = [
        f"**{about['task']}** on `{about['base']}`: {about['metric']} on {about['n_test']} test "
        f"rows, {about['seeds']} seed{'s' if about['seeds'] > 1 else ''}",
        "",
        "| technique | score | 95 % interval | labels | trained parameters "
        "| training s | p50 ms | prompt tokens |",
        "|---|--:|---|--:|--:|--:|--:|--:|",
        *(board_row(row) for row in scored),
        *(
            f"| {r['technique']} | {r['status']} | {r['reason']} | | | | | |"
            for r in found
            if r["score"] is None
        ),
        *beside_rows(about, found),
        "",
        about["verdict"]["text"].replace("\n", " "),
        "",
        "Seconds: "
        + ", ".join(f"{k} {v:,.0f}" for k, v in about["seconds"].items() if v is not None)
        + ".",
    ]
    return lines(rows)


def beside_rows(about: Record, found: list[Record]) -> list[str]:
    """Return the table of what rows carry beside their score, empty when none does."""
    read = reading.read({**about, "board": found})
    columns = beside.columns(read)
    if not columns:
        return []
    heads = [column.head for column in columns]
    return [
        "",
        f"| beside the score | {' | '.join(heads)} |",
        "|---|" + "--:|" * len(heads),
        *(
            f"| {row.name} | {' | '.join(column.show(row) for column in columns)} |"
            for row in beside.rows(read)
        ),
    ]


def board_row(row: Record) -> str:
    """Return one technique's line."""
    latency, tokens = row["latency_p50_seconds"], row["prompt_tokens"]
    trained = row["trainable_parameters"]
    cells = [
        row["technique"],
        f"{row['score']:.3f}",
        f"{row['low']:.3f} to {row['high']:.3f}",
        f"{row['labels_used']:,}",
        f"{trained:,} ({row['trainable_share']:.1%})" if trained else "",
        f"{row['search_seconds'] + row['train_seconds']:,.0f}" if trained else "",
        "" if latency is None else f"{1000 * latency:.0f}",
        "" if tokens is None else f"{tokens:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def one(records: list[Record], kind: str) -> Record:
    """Return the only record of a kind."""
    return next(record for record in records if record["kind"] == kind)


def lines(rows: list[str]) -> str:
    """Return rows as text, empty for no rows."""
    return "".join(f"{row}\n" for row in rows)
