"""The ladder's comparison: work is read from the run folder, prices are linear, winners are held
against each other by the same rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import ladder_records, ladder_table, memory_table


def unit(folder: Path, result: dict[str, Any], answers: int = 0) -> None:
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    if answers:
        (folder / "predictions.jsonl").write_text("{}\n" * answers, encoding="utf-8")


def lora(examples: int, looks: int) -> dict[str, Any]:
    history: list[dict[str, Any]] = [{"step": 1, "dev_score": 0.5} for _ in range(looks)]
    own = {"technique": "lora", "candidate": {"deltas": [["lora", {}]]}, "learning_rate": 0.1}
    return {**own, "examples": examples, "history": [*history, {"event": "rollback"}]}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    board = [
        {"technique": "lora", "prompt_tokens": 30.0},
        {"technique": "zero_shot", "prompt_tokens": 20.0},
    ]
    (tmp_path / "board.json").write_text(
        json.dumps({"data": {"dev_judging": 10}, "board": board}), encoding="utf-8"
    )
    unit(tmp_path / "trials" / "lora-1.seed0", lora(640, 4), answers=10)
    unit(tmp_path / "trials" / "lora-1.seed0.search0", lora(160, 1))
    prompt = {"technique": "zero_shot", "candidate": {"deltas": []}}
    unit(tmp_path / "trials" / "zero_shot-2.seed0", prompt, answers=10)
    for name in ("lora-1.seed0", "zero_shot-2.seed0"):
        unit(tmp_path / "measured" / name, {}, answers=50)
    return tmp_path


def test_work_is_all_that_the_run_folder_records(run: Path) -> None:
    works = {work["technique"]: work for work in ladder_records.ledger(run)}
    assert works["lora"]["presentations"] == 800
    assert works["lora"]["last_presentations"] == 640
    assert works["lora"]["questions"] == 5 * 10 + 50
    assert works["zero_shot"]["questions"] == 10 + 50
    assert works["zero_shot"]["delta"] is None


def test_the_peer_pays_for_every_presentation_and_question(run: Path) -> None:
    told = [
        {"kind": "rate", "block": 0, "delta": "lora", "cpu_seconds": 2.0},
        {"kind": "rate", "block": 1, "delta": "lora", "cpu_seconds": 1000.0},
        {"kind": "question", "block": 0, "prompt_tokens": 20, "cpu_seconds": 0.2},
        {"kind": "question", "block": 0, "prompt_tokens": 40, "cpu_seconds": 0.4},
    ]
    found = ladder_records.priced(ladder_records.ledger(run), told, 0)
    assert found["one_by_one"] == pytest.approx(800 * 2 + 100 * 0.3 + 60 * 0.2)
    assert found["dearest_once"] == pytest.approx(640 * 2 + 50 * 0.3)


def asked(**ours: list[int]) -> dict[str, Any]:
    runs = [{"technique": name} for name in ours]
    return {"wanted": [1] * 20, "runs": runs, "ours": ours}


def test_the_gate_holds_when_each_side_s_best_is_tied_with_the_other_s() -> None:
    good, fair, bad = [1] * 20, [1] * 18 + [0] * 2, [0] * 20
    told = [{"technique": "a", "answers": fair}, {"technique": "b", "answers": good}]
    passed = ladder_records.gate(asked(a=good, b=fair), told)
    assert passed["passed"]
    assert passed["best"] == {"ours": "a", "peer": "b"}
    assert passed["scores"]["peer"] == {"a": 0.9, "b": 1.0}
    worse = [{"technique": "a", "answers": bad}, {"technique": "b", "answers": good}]
    assert not ladder_records.gate(asked(a=good, b=bad), worse)["passed"]


def test_tables_are_empty_without_results_and_show_ratios_with_them() -> None:
    assert ladder_table.ladders({}) == ladder_table.overheads({}) == ""
    records: list[dict[str, Any]] = [
        {"kind": "setup", "instruction": "short"},
        {"kind": "gate", "best": {"ours": "lora", "peer": "full"}},
        ladder_records.summary(100.0, [{"one_by_one": 2000.0, "dearest_once": 200.0}] * 3),
    ]
    line = ladder_table.ladders({"ladder-short": records}).splitlines()[-1]
    assert "| 100 s | 200 s (200 s-200 s) | **0.50** (0.50-0.50) |" in line
    assert "lora and full" in line
    peak = {"kind": "peak", "technique": "lora", "expected": 9e8, "measured": 5e8, "shape": "5M"}
    told = memory_table.expected(
        [{"kind": "machine"}, peak, {**peak, "expected": 6e8, "shape": "30M"}]
    )
    assert "| lora | 900 MB | 500 MB | 1.80 | 600 MB | 500 MB | 1.20 |" in told
    assert "1 of 2 within a factor of 1.5; from 1.20 to 1.80" in told
