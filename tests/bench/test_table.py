"""The documents' figures are replaced in place, from the newest result of each name."""

from __future__ import annotations

import json
from pathlib import Path

from bench import board_table, table


def test_fill_replaces_only_between_the_markers() -> None:
    text = "a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n<!-- y:begin -->\nkept\n<!-- y:end -->\n"
    new = text.replace("old", r"new \1")
    assert table.fill(text, {"x": "new \\1\n", "absent": "lost\n"}) == new


def test_newest_file_of_a_name_counts(tmp_path: Path) -> None:
    for day, value in (("2026-01-02", 2), ("2026-01-01", 1)):
        (tmp_path / f"{day}-speed.jsonl").write_text(json.dumps({"value": value}) + "\n")
    assert table.newest(tmp_path) == {"speed": [{"value": 2}]}


def test_a_board_of_the_coverage_table_shows_the_present_rule_first() -> None:
    record = {"kind": "world", "world": "6 alike", "n": 200}
    for i, rule in enumerate(("present", "former", "plain")):
        record |= {f"{rule}_coverage": 0.95 - i / 100, f"{rule}_width": 0.2 + i / 10}
        record |= {f"{rule}_false_claims": i / 100}
    line = table.coverage({"coverage": [{"kind": "machine"}, record]}).splitlines()[-1]
    assert line == (
        "| 6 alike | 200 | 95.0% | 0.200 | 94.0% | 0.300 | 93.0% | 0.400 | 0.0% | 1.0% |"
    )
    assert table.coverage({}) == ""


def test_what_stands_beside_the_score_is_a_second_table() -> None:
    values = {"kl": {"value": 2.0, "low": 1.0, "high": 3.0}}
    row = {"kind": "row", "technique": "lora+dpo", "status": "ok", "score": 0.5, "compared": values}
    shown = board_table.beside_rows({"kind": "about"}, [row, {**row, "compared": {}}])
    assert shown == [
        "",
        "| beside the score | KL |",
        "|---|--:|",
        "| lora+dpo | 2.000 [1.000, 3.000] |",
    ]
    assert board_table.beside_rows({"kind": "about"}, [{**row, "compared": {}}]) == []


def test_a_bad_start_stands_beside_the_good_one() -> None:
    def start(factor: float, score: float | None, rate: float | None) -> table.Record:
        told = {"technique": "lora", "factor": factor, "score": score, "learning_rate": rate}
        return {**told, "kind": "start", "low": 0.9, "high": 0.95, "status": "diverged"}

    records = [
        {"kind": "setup", "case": "hard_routing", "seeds": 1, "budget": 6000},
        *(start(1.0, 0.93, 0.0064), start(100.0, None, None), start(0.01, 0.91, 0.004)),
        {"kind": "technique", "technique": "lora", "endings": {"100": "flagged", "0.01": "found"}},
    ]
    line = table.bad_starts({"bad-start-hard_routing": records}).splitlines()[-1]
    assert line == (
        "| lora | 0.930 at 0.0064 [0.900, 0.950] | diverged, flagged | 0.910 at 0.004, found |"
    )
    assert table.bad_starts({}) == ""
