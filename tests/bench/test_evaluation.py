"""The evaluation table names the peer, its option and the gate beside each ratio."""

from __future__ import annotations

from typing import Any

from bench import evaluation_table

SETUP = {"kind": "setup", "shape": "5M", "shots": 16, "prompt_tokens": 343.5}
SUMMARY = {"kind": "summary", "ours": 30.0}


def records(asks: str, gate: dict[str, Any], rates: dict[str, float]) -> list[dict[str, Any]]:
    ratios = {f"ratio_to_{part}": [30 / rate] * 3 for part, rate in rates.items()}
    options = {"options": dict.fromkeys(rates, "batch 8")}
    setup = {**SETUP, "asks": asks, "title": asks}
    return [setup, {"kind": "gate", **gate}, {**SUMMARY, **options, **rates, **ratios}]


def test_each_peer_has_a_row_with_its_ratio_and_the_gate() -> None:
    scored = {"questions": 4, "same_predictions": 3, "ties": 1, "logprob_error": 2e-5}
    written = {"questions": 16, "same_predictions": 16}
    shown = evaluation_table.ratios(
        {
            "evaluation-text": records("text", written, {"plain": 3.0, "cached": 10.0}),
            "evaluation-labels": records("labels", scored, {"shipped": 0.1, "best": 0.2}),
            "evaluation-growth-shots": [],
        }
    ).splitlines()[2:]
    assert shown == [
        "| labels | 5M | 344 | lm-eval as shipped | batch 8 | 0.10 | 30.0 "
        "| **300.0 (300.0-300.0)** | 3 of 4 answers, 1 ties, 2e-05 nats |",
        "| labels | 5M | 344 | lm-eval at its best | batch 8 | 0.20 | 30.0 "
        "| **150.0 (150.0-150.0)** | 3 of 4 answers, 1 ties, 2e-05 nats |",
        "| text | 5M | 344 | `generate` | batch 8 | 3.00 | 30.0 "
        "| **10.0 (10.0-10.0)** | 16 of 16 answers |",
        "| text | 5M | 344 | `generate` with a prefix cache | batch 8 | 10.00 | 30.0 "
        "| **3.0 (3.0-3.0)** | 16 of 16 answers |",
    ]


def test_growth_is_a_table_for_each_run() -> None:
    point = {"kind": "point", "x": 77, "shipped": 1.0, "best": 0.5, "ours": 0.05}
    shown = evaluation_table.growth(
        {"evaluation-growth-labels": [{"kind": "about", "unit": "labels"}, point]}
    )
    assert shown.splitlines()[-1] == "| 77 | 1,000.0 ms | 500.0 ms | 50.0 ms | 10.0 |"
    assert evaluation_table.growth({}) == ""
