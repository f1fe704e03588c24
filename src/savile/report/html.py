"""The report: one HTML file with the verdict, the board, its pictures, mistakes, data and settings.

Nothing is loaded from anywhere; a Content-Security-Policy allows only the inlined style and script by
their hashes. Every text of the document is escaped here, at the only place where it meets markup.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from savile.report import beside, charts, reading, style
from savile.report.charts import Cost
from savile.report.columns import Column, columns_beside, columns_of
from savile.report.reading import MISSING, Board, Row

COSTS = (
    Cost("latency_p50_seconds", "seconds of one request, median", reading.seconds),
    Cost("seconds", "seconds to search, train and test", reading.seconds),
    Cost("usd_per_1000", "USD per 1,000 requests", reading.usd),
    Cost("trainable_parameters", "trainable parameters", reading.count),
)
LEGEND = (
    '<p class="soft legend"><span><i class="dot prompt"></i>prompt only</span>'
    '<span><i class="dot tuned"></i>tuned</span>'
    '<span><i class="dot baseline"></i>trivial baseline</span></p>'
)


def render(document: Mapping[str, Any]) -> str:
    """Return the whole page."""
    board = reading.read(document)
    title = f"{board.text('task')}: {board.verdict_lines[0]}"
    sections = [
        _head(board),
        _table(board),
        _beside(board),
        _judge(board),
        _pictures(board),
        _mistakes(board),
        _data(board),
        _reproduce(board),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{style.policy()}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{escape(title[:120])}</title>\n<style>{style.CSS}</style>\n</head>\n<body>\n<main>\n"
        f"{''.join(filter(None, sections))}\n</main>\n<script>{style.SCRIPT}</script>\n</body>\n</html>\n"
    )


def _head(board: Board) -> str:
    lead, *rest = board.verdict_lines
    said = "".join(f"<p>{escape(sentence)}</p>" for sentence in rest)
    return (
        f"<header><h1>{escape(board.text('task'))}</h1>"
        f'<p class="soft">{escape(board.subtitle)}</p></header>\n'
        f'<section class="verdict" aria-label="Verdict"><p class="lead">{escape(lead)}</p>{said}</section>\n'
        + "".join(f'<p class="soft">{escape(sentence)}</p>' for sentence in board.limits)
    )


def _table(board: Board) -> str:
    caption = (
        "Best first; shaded: the highest score and what is tied with it (not shown to be worse). "
        "Click a head to sort."
    )
    table = (
        _sortable(caption, columns_of(board), board.rows, board)
        if board.rows
        else '<p class="soft">No technique has a score.</p>'
    )
    rest = "".join(f"<li>{escape(row.name)}: {escape(_why(row))}</li>" for row in board.others)
    missing = f'<p class="soft">Without a score:</p><ul class="soft">{rest}</ul>' if rest else ""
    said = "".join(f"<li>{escape(note)}</li>" for note in board.notes)
    notes = f'<p class="soft">About these scores:</p><ul class="soft">{said}</ul>' if said else ""
    return f"<h2>The board</h2>{table}{LEGEND}{notes}{missing}"


def _beside(board: Board) -> str:
    rows = beside.rows(board)
    if not rows:
        return ""
    caption = "What else was measured on the same answers; in brackets its 95 % interval."
    return f"<h2>Beside the score</h2>{_sortable(caption, columns_beside(board), rows, board)}"


def _judge(board: Board) -> str:
    said = "".join(f"<li>{escape(sentence)}</li>" for sentence in board.judge)
    return f"<h2>The judge</h2><ul>{said}</ul>" if said else ""


def _sortable(caption: str, columns: Sequence[Column], rows: Sequence[Row], board: Board) -> str:
    head = '<th scope="col" class="left">technique</th>' + "".join(
        f'<th scope="col">{escape(c.head)}</th>' for c in columns
    )
    body = "".join(_row(row, columns, board) for row in rows)
    return (
        f'<div class="wide"><table class="sortable"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{_meanings(columns)}"
    )


def _row(row: Row, columns: Sequence[Column], board: Board) -> str:
    leading = " lead" if row.name in board.leading else ""
    word = board.mark(row)
    mark = f" <small>{word}</small>" if word else ""
    cells = []
    for column in columns:
        value = column.value(row)
        key = "" if value is None else f' data-v="{value!r}"'
        cells.append(f"<td{key}>{escape(column.show(row))}</td>")
    return (
        f'<tr class="{row.kind}{leading}"><th scope="row" data-v="{escape(row.name)}">'
        f'<i class="dot {row.kind}"></i>{escape(row.name)}{mark}</th>{"".join(cells)}</tr>'
    )


def _meanings(columns: Sequence[Column]) -> str:
    lines = "".join(f"<dt>{escape(c.head)}</dt><dd>{escape(c.meaning)}</dd>" for c in columns)
    return (
        f'<details class="soft"><summary>What the columns mean</summary><dl>{lines}</dl></details>'
    )


def _pictures(board: Board) -> str:
    if not board.rows:
        return ""
    plot = charts.intervals(board)
    drawn = [charts.quality_cost(board, cost) for cost in COSTS]
    figures = "".join(_figure(picture) for picture in drawn if picture)
    costs = (
        "<h2>Quality and its cost</h2>"
        '<p class="soft">Upper left is better. On the dashed line nothing else is both cheaper and '
        f'better.</p><div class="pair">{figures}</div>'
    )
    return (
        "<h2>How sure the scores are</h2>"
        '<p class="soft">Dot: score; bar: 95 % interval; band: the interval of the highest score.</p>'
        f'<figure class="plot">{plot}</figure>'
        f"{costs if figures else ''}"
    )


def _figure(picture: charts.Picture) -> str:
    listed = f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else ""
    return f"<figure>{picture.svg}{listed}</figure>"


def _mistakes(board: Board) -> str:
    blocks: list[str] = []
    for row in board.rows:
        wrong = [reading.mapping(m) for m in reading.sequence(row.values.get("mistakes"))]
        if not wrong:
            continue
        lines = "".join(
            "<tr>" + "".join(f'<td class="long">{_value(m.get(k))}</td>' for k in MISTAKE) + "</tr>"
            for m in wrong
        )
        heads = "".join(f'<th scope="col" class="left">{name}</th>' for name in MISTAKE)
        blocks.append(
            f"<details{'' if blocks else ' open'}><summary>{escape(row.name)}</summary>"
            f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>'
            "</div></details>"
        )
    about = (
        '<p class="soft">Some of the test rows that each technique got most wrong with its first '
        "seed, long texts cut. Click a name to see its rows; one that is missing made no mistake.</p>"
    )
    return f"<h2>Where they go wrong</h2>{about}{''.join(blocks)}" if blocks else ""


MISTAKE = ("input", "expected", "got")


def _data(board: Board) -> str:
    data = reading.mapping(board.document.get("data"))
    sizes = ", ".join(
        f"{reading.count(reading.number(data.get(name)))} {name}"
        for name in ("train", "dev", "test")
    )
    lines = "".join(
        f'<tr><th scope="row">{_value(fate.get("stage"))}</th>'
        f"<td>{escape(reading.count(reading.number(fate.get('n_in'))))}</td>"
        f'<td class="left">{escape(_used(fate))}</td><td class="left">{escape(_aside(fate))}</td></tr>'
        for fate in map(reading.mapping, reading.sequence(data.get("fates")))
    )
    fates = (
        '<div class="wide"><table><caption>What became of every row</caption><thead><tr>'
        '<th scope="col" class="left">stage</th><th scope="col">rows in</th>'
        '<th scope="col" class="left">used</th><th scope="col" class="left">set aside</th>'
        f"</tr></thead><tbody>{lines}</tbody></table></div>"
    )
    notes = "".join(f"<li>{_value(note)}</li>" for note in reading.sequence(data.get("notes")))
    return (
        f"<h2>Data health</h2><p>{escape(sizes)} rows.</p>{fates if lines else ''}"
        f"{f'<ul>{notes}</ul>' if notes else ''}"
    )


def _used(fate: Mapping[str, Any]) -> str:
    used = {k.removeprefix("used_"): v for k, v in fate.items() if k.startswith("used")}
    return ", ".join(
        reading.count(reading.number(n)) + ("" if name == "used" else f" {reading.line(name)}")
        for name, n in used.items()
    )


def _aside(fate: Mapping[str, Any]) -> str:
    reasons = fate.get("quarantined")
    if not isinstance(reasons, Mapping):
        return reading.count(reading.number(reasons))
    told = [f"{reading.count(reading.number(n))} {reading.line(why)}" for why, n in reasons.items()]
    return ", ".join(told) or "0"


def _reproduce(board: Board) -> str:
    blocks = [
        f"<details><summary>{escape(row.name)}</summary><pre>{_json(row.values.get('settings'))}</pre>"
        "</details>"
        for row in (*board.rows, *board.others)
        if row.values.get("settings")
    ]
    facts = {
        k: board.document.get(k) for k in ("seconds", "machine", "versions") if k in board.document
    }
    about = (
        f"<details><summary>Time, machine and versions</summary><pre>{_json(facts)}</pre></details>"
    )
    return (
        "<h2>Settings, and how to get this again</h2>"
        "<p>The run folder beside this file holds the resolved spec, the hashes of data and base model, "
        "and every trial. The same spec, with the same <code>--set</code>, <code>--only</code> and "
        "<code>--skip</code>, on the same machine and versions gives the same board.</p>"
        f"{''.join(blocks)}{about}"
        "<footer>Written by Savile from board.json; no number here was typed by hand.</footer>"
    )


def _why(row: Row) -> str:
    status = (row.text("status") or "not run").replace("_", " ").replace("ok", "no score")
    return f"{status}; {row.text('reason') or 'no reason was recorded'}"


def _value(value: object) -> str:
    return MISSING if value is None else escape(reading.clean(value))


def _json(value: object) -> str:
    return escape(reading.clean(json.dumps(value, indent=2, ensure_ascii=False, default=str)))
