"""The training benchmark: jobs fit their parts, rates follow from passes, the gate can fail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import case
import gate
import gate_rollouts
import grid
import jobs
import ours
import peer
import texts
import training
import training_table
from jobs import JOBS

TINY = case.Shape(16, 32, 2, 2, 2, 300, tied=True)
ROWS = [
    texts.Text(f"what of {word} and {number}", f"it is {word}", f"never {number} {word}")
    for number in range(6)
    for word in ("gold", "silver", "tin")
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which cases of a tiny shape are prepared, from rows made up here."""
    monkeypatch.setitem(case.SHAPES, "tiny", TINY)
    monkeypatch.setattr(texts, "read", lambda *_: ROWS)
    return tmp_path


def prepared(folder: Path, job: jobs.Job) -> dict[str, Any]:
    request = {
        "shape": "tiny",
        "texts": job.texts,
        "data": "",
        "instruction": training.instruction(job, ROWS),
        "sample": ROWS if job.texts == "hh_rlhf" else [row._replace(rejected=None) for row in ROWS],
        "learning_rate": job.learning_rate,
        "delta": job.delta,
        "objective": job.objective,
        "group": job.group,
        "written": min(job.written, 6),
        "gate": [2 * job.group, 4],
        "pass": [4 * job.group, 2],
    }
    return ours.prepare(folder, request)


@pytest.mark.parametrize("name", JOBS)
def test_a_job_names_parts_that_exist(name: str) -> None:
    job = JOBS[name]
    assert job.texts in texts.SOURCES
    assert job.delta in ours.DELTAS
    assert job.objective in ours.OBJECTIVES
    assert (peer.peft_config(job.delta) is None) == (job.delta == "full")
    assert set(job.shapes) <= set(case.SHAPES) & set(jobs.PACES)
    quick, full = (grid.tried(job, 30.0, full=full) for full in (False, True))
    assert set(quick) <= set(full)
    assert grid.shipped(job) in quick or job.delta == grid.PREFIX
    for option in (*full, *grid.trainers(job, "wide")):
        assert grid.OPTIONS[option].trainer in peer.TRAINERS


def test_rows_that_share_a_sequence_are_no_option_of_soft_prompts() -> None:
    def flat(name: str, tokens: float) -> set[str]:
        tried = grid.tried(JOBS[name], tokens, full=True)
        return {grid.OPTIONS[option].attention for option in tried if grid.OPTIONS[option].flat}

    assert flat("lora-short", 30.0) == {"sdpa", "eager"}
    assert flat("lora-labels", 390.0) == {"sdpa"}
    assert flat("prompt-tuning", 30.0) == set()


def test_a_batch_that_would_not_fit_in_memory_is_not_flattened_whole() -> None:
    sizes = (JOBS["lora-labels"]._replace(batch_size=n) for n in (32, 64))
    few, many = (set(grid.tried(job, 366.0, full=True)) for job in sizes)
    assert few - many == {option for option in few if "padding-free" in option}
    assert any("packing" in option for option in many)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", ["lora-short", "prefix-tuning", "dpo", "reward"])
def test_the_gate_lets_equal_work_pass_and_no_other(folder: Path, name: str) -> None:
    prepared(folder, JOBS[name])
    small = case.Case.load(folder / "gate.json")
    assert gate.gate(small)["passed"]
    assert small.peer_order is not None
    wrong = replace(small, peer_order=small.peer_order[::-1])
    assert not gate.gate(wrong)["passed"]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_the_gate_of_written_answers_lets_the_same_formula_pass_and_no_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = prepared(folder, JOBS["grpo"])
    small = case.Case.load(folder / "gate.json")
    equal = gate_rollouts.gate(small)
    assert equal["passed"]
    assert (equal["rows_a_step"], equal["round"]) == (2 * jobs.GROUP, 8 * jobs.GROUP)
    asked = sum(len(row.prompt) for row in case.Case.load(folder / "pass.json").rows)
    assert found["tokens"] == jobs.GROUP * (asked + 8 * 6)
    monkeypatch.setattr(peer, "BETA", 2 * jobs.BETA)
    assert not gate_rollouts.gate(small)["passed"]


def test_useful_work_counts_shared_tokens_once_and_predicting_positions(folder: Path) -> None:
    found = prepared(folder, JOBS["lora-short"])
    timed = case.Case.load(folder / "pass.json")
    nodes = predicting = 0
    rows = timed.peer_rows
    for step in (rows[:4], rows[4:]):
        fed = [(*row.prompt, *row.completion[:-1]) for row in step]
        nodes += len({path[: n + 1] for path in fed for n in range(len(path))})
        predicting += len(
            {path[:n] for path, row in zip(fed, step, strict=True)
             for n in range(len(row.prompt), len(path) + 1)}
        )  # fmt: skip
    assert (found["tree_tokens"], found["predicting"]) == (nodes, predicting)
    assert found["head_parameters"] == 16 * 300
    trunk = found["trunk_parameters"] * nodes + found["head_parameters"] * predicting
    assert found["useful_flop"] == 4 * trunk
    assert prepared(folder, JOBS["full"])["useful_flop"] == 6 * trunk
    assert found["tokens"] == sum(len(r.prompt) + len(r.completion) for r in rows)
    shared = found["shared_tokens"]
    assert len({tuple(row.prompt[:shared]) for row in rows}) == 1
    assert len({tuple(row.prompt[: shared + 1]) for row in rows}) > 1


def passes() -> list[training.Record]:
    seconds = {"shipped": (4.0, 8.0), "best": (2.0, 2.0), "ours": (1.0, 0.5)}
    return [
        {
            "kind": "pass",
            "block": block,
            "side": side,
            "tokens": 100,
            "cpu_seconds": seconds[side][block],
            "wall_seconds": 2 * seconds[side][block],
            "probe_fp32_gflop_per_cpu_second": 100,
            "probe_bf16_gflop_per_cpu_second": 50,
        }
        for block in (0, 1)
        for side in (*seconds, *reversed(seconds))
    ]


def test_ratios_are_medians_over_blocks_and_shares_are_of_the_better_probe() -> None:
    sides = {"shipped": "as shipped", "best": "sft: fp32", "ours": ""}
    found = training.summary(passes(), sides, useful_flop=2e10)
    assert found["ratio_to_best"] == [3.0, 2.0, 4.0]
    assert found["ratio_to_shipped"] == [10.0, 4.0, 16.0]
    assert found["ours"]["tokens_per_cpu_second"] == [150.0, 100.0, 200.0]
    assert found["ours"]["tokens_per_second"] == [75.0, 50.0, 100.0]
    assert found["ours"]["share_of_peak"] == [0.3, 0.2, 0.4]


def test_a_line_of_the_table_has_ratio_gate_and_share() -> None:
    sides = {"shipped": "sft: as shipped", "best": "sft: fp32", "ours": ""}
    setup = {
        "kind": "setup", "goal": "B1", "job": "lora-short", "shape": "5M", "title": "LoRA SFT",
        "tokens": 280, "rows": 10, "trunk_parameters": 1, "head_parameters": 1,
    }  # fmt: skip
    errors = dict.fromkeys(training_table.ERRORS, 2e-7)
    records = [
        setup,
        {"kind": "gate", **errors},
        {"kind": "grid", "option": "sft: fp32", "tokens_per_cpu_second": 50.0},
        {"kind": "grid", "option": "sft: as shipped", "tokens_per_cpu_second": 17.0},
        training.summary(passes(), sides, useful_flop=2e10),
    ]
    results = {"training-lora-short-5M": records, "startup": []}
    line = training_table.ratios(results).splitlines()[-1]
    assert line == (
        "| B1 lora-short | 5M | 28 | TRL + PEFT at its best | fp32 | 50 | 150 "
        "| **3.0 (2.0-4.0)** | 2e-07, 2e-07, 2e-07 | 30%, 10% |"
    )
    assert training_table.short(results).splitlines()[-1] == (
        "| LoRA SFT | 5M | 150 | 10.0 (4.0-16.0) | **3.0 (2.0-4.0)** |"
    )
    assert training_table.grids(results).splitlines()[-2:] == [
        "| fp32 | **50** |",
        "| as shipped | 17 |",
    ]
    assert training_table.grids({}) == ""


def test_data_that_is_missing_is_no_reason_to_make_some_up(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"gsm8k/train\.jsonl does not exist"):
        texts.read("gsm8k", tmp_path)
