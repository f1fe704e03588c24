"""The table of goals: figures come from the records, a miss is told by how much and why."""

from __future__ import annotations

import pytest

import evaluation_jobs
import goal_figures
import goals_table
import jobs
import training_table
from goal_figures import Figure, Record, Results
from goals_table import Part


def trained(
    ratio: float, share: float = 0.3, job: str = "lora-short", shape: str = "5M"
) -> Results:
    def side(rate: float) -> Record:
        return {"tokens_per_cpu_second": [rate] * 3, "share_of_peak": [share] * 3}

    options = {
        "shipped": "sft: as shipped", "best": "sft: fp32", "ours": "",
        "trainer": "transformers Trainer, fp32",
    }  # fmt: skip
    records = [
        {
            "kind": "setup", "goal": "B1", "job": job, "shape": shape, "blocks": 3, "full": True,
            "trunk_parameters": 1, "head_parameters": 1,
        },
        {"kind": "gate", **dict.fromkeys(training_table.ERRORS, 2e-7)},
        {"kind": "grid", "option": "sft: bf16 weights", "tokens_per_cpu_second": 90.0},
        *(
            {"kind": "grid", "option": f"transformers Trainer, bf16 weights{more}",
             "tokens_per_cpu_second": rate}
            for more, rate in (("", 20.0), (", eager attention", 25.0))
        ),
        {
            "kind": "summary", "options": options, "ours": side(100.0),
            **{f"ratio_to_{name}": [ratio, ratio - 0.5, ratio + 0.5] for name in options},
        },
    ]  # fmt: skip
    return {f"training-{job}-{shape}": records}


def evaluated(name: str) -> Results:
    gate = {"kind": "gate", "same_predictions": 3, "ties": 1, "questions": 4, "logprob_error": 1e-5}
    parts = dict.fromkeys(("shipped", "best", "plain", "cached"), "batch 16")
    ratios = {f"ratio_to_{part}": [9.0, 8.0, 10.0] for part in parts}
    setup = {"kind": "setup", "job": name, "blocks": 1}
    return {f"evaluation-{name}": [setup, gate, {"kind": "summary", "options": parts, **ratios}]}


FASTER = Part(
    1, "short", 2.5, goal_figures.training("lora-short", "5M", "best"), "TRL", why="it is hard"
)


@pytest.mark.parametrize(
    ("results", "verdict"),
    [
        (trained(2.6), "2.6 (2.1-3.1) | reached | 2e-07, 2e-07, 2e-07; 3 blocks, whole grid; fp32"),
        (trained(2.5), "2.5 (2.0-3.0) | reached | 2e-07, 2e-07, 2e-07; 3 blocks, whole grid; fp32"),
        (
            trained(2.0),
            "2.0 (1.5-2.5) | **missed**: 80% of it "
            "| 2e-07, 2e-07, 2e-07; 3 blocks, whole grid; fp32",
        ),
        ({}, " | not measured | "),
    ],
)
def test_a_part_is_reached_missed_or_not_measured(results: Results, verdict: str) -> None:
    shown = goals_table.goals(results, (FASTER,))
    row = shown.splitlines()[2]
    assert row == f"| 1 LoRA SFT on a CPU | short | TRL | ≥ 2.5 times | {verdict} |"
    assert ("it is hard" in shown) == ("missed" in verdict)


def test_a_measurement_that_broke_off_has_no_figure() -> None:
    results = trained(3.0)
    results["training-lora-short-5M"] = results["training-lora-short-5M"][:-1]
    assert goal_figures.training("lora-short", "5M", "best")(results) == []
    assert goal_figures.shares("5M")(results) == []


def test_several_figures_are_reached_together_and_show_the_worst_and_the_best() -> None:
    both = trained(3.0, 0.45) | trained(3.0, 0.32, job="dpo")
    part = Part(3, "5M", 0.4, goal_figures.shares("5M"), unit=goals_table.SHARE)
    (judged,) = goals_table.judged(both, (part,))
    assert judged.shown == "32% (dpo 5M) to 45% (lora-short 5M); good: 1 of 2"
    assert judged.verdict == "**missed**: 80% of it"
    (judged,) = goals_table.judged(trained(3.0, 0.45), (part,))
    assert (judged.shown, judged.verdict) == ("45%", "reached")


def test_a_limit_is_missed_by_what_lies_above_it() -> None:
    def found(results: Results) -> list[Figure]:
        return [Figure(0.01, "1%", "", "a"), Figure(0.08, "8%", "small", "b")]

    part = Part(7, "overhead", 0.02, found, unit=goals_table.LIMIT)
    (judged,) = goals_table.judged({}, (part,))
    assert judged.shown == "8% (b) to 1% (a); good: 1 of 2"
    assert judged.verdict == "**missed**: 4.0 times it"
    assert "7 overhead: not known yet." in goals_table.goals({}, (part,))


def test_every_goal_reads_records_that_the_benchmarks_write() -> None:
    results: Results = {"startup": [], "racing": []}
    for name, job in jobs.JOBS.items():
        for shape in job.shapes:
            results |= trained(9.0, job=name, shape=shape)
    for name in evaluation_jobs.JOBS:
        results |= evaluated(name)
    parts = [one for one in goals_table.judged(results, goals_table.GOALS) if one.part.goal <= 4]
    assert [one.part.words for one in parts if not one.figures] == []
    assert {one.part.goal for one in parts} == {1, 2, 3, 4}


def test_the_trainer_in_bf16_is_its_faster_option_of_that_type() -> None:
    (figure,) = goal_figures.trainer_bf16("lora-short", "5M")(trained(3.0))
    assert figure.shown == "4.0 (one pass)"
    assert figure.gate.endswith("; transformers Trainer, bf16 weights, eager attention")


def test_answers_of_all_evaluations_count_together() -> None:
    results = evaluated("labels-0") | evaluated("text-16")
    results["evaluation-growth-labels"] = [{"kind": "point"}]
    (figure,) = goal_figures.predictions(results)
    assert (figure.value, figure.shown) == (1.0, "8 of 8")
    results["evaluation-labels-0"][1]["ties"] = 0
    assert goal_figures.predictions(results)[0].shown == "7 of 8"


def test_a_ladder_has_a_multiple_and_the_winners() -> None:
    gate = {"kind": "gate", "passed": True, "rows": 160, "best": {"ours": "full", "peer": "lora"}}
    ratios = {"kind": "summary", "ours_to_dearest_once": [0.5, 0.4, 0.6]}
    results: Results = {"ladder-short": [gate, ratios], "ladder-labels": [gate | {"passed": False}]}
    (figure,) = goal_figures.ladder("short", "dearest_once")(results)
    assert (figure.value, figure.shown) == (0.5, "0.5 (0.4-0.6)")
    assert figure.gate.startswith("winners full and lora, 160 rows")
    assert goal_figures.ladder("labels", "dearest_once")(results) == []
    assert [f.shown for f in goal_figures.same_winners(results)] == ["yes", "no"]


def test_races_commands_and_overheads_are_read() -> None:
    race = {
        "kind": "replays", "task": "t", "ladder": "auto", "margin": 0.1, "replays": 60,
        "regret": 0.004, "tokens": 0.31,
    }  # fmt: skip
    results: Results = {
        "racing": [{"kind": "chance"}, race, race | {"regret": 0.0, "tokens": 0.9}],
        "startup": [
            {"kind": "startup", "command": "savile --help", "runs": 5, "cpu_seconds_median": 0.12,
             "heavy_modules": ["numpy"]},
            {"kind": "startup", "command": "savile check", "runs": 5, "cpu_seconds_median": 9.0,
             "heavy_modules": ["torch", "numpy"]},
        ],
        "overhead-easy": [{"kind": "overhead", "case": "easy", "overhead": 0.03, "total": 33.2}],
    }  # fmt: skip
    first, second = goal_figures.races("tokens", ".0%")(results)
    assert (first.shown, second.shown) == ("31%", "90%")
    assert first.gate == second.gate == "60 replays each; mean regret at most 0.004"
    assert first.where == "t, auto, margin 0.1"
    assert [(f.value, f.shown, f.where) for f in goal_figures.imports(results)] == [
        (0, "none", "--help"),
        (1, "torch", "check"),
    ]
    assert [f.shown for f in goal_figures.start("savile --help")(results)] == ["0.12 s"]
    assert [(f.shown, f.where) for f in goal_figures.overheads(results)] == [("3.0%", "easy")]


def test_at_a_glance_every_goal_has_a_line() -> None:
    shown = goals_table.glance(trained(2.6))
    rows = shown.splitlines()
    assert [row.split(" ")[1] for row in rows[2:-2]] == [str(goal) for goal in goals_table.TITLES]
    assert (
        "| Banking77, 5M: 2.6 (≥ 2.5 times) | Banking77, 5M: 2.6 (≥ 5 times TRL as shipped) |"
        in (rows[2])
    )
    assert rows[-1].startswith(f"Of {len(goals_table.GOALS)} parts 1 are reached, 2 missed and ")
