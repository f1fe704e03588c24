"""Who runs next in a race, who is stopped, and that a run with one is the same after a kill."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from savile import spec as specs
from savile.cli.edge import main
from savile.errors import InterruptedRun, UsageError
from savile.ladder import run as ladder
from savile.ladder.answer import Customized
from savile.ladder.families import family_of
from savile.ladder.folder import PREDICTIONS, RunFolder
from savile.ladder.race import Race, Runner, first_rows, keepers, leader_of
from savile.metrics.base import Array
from savile.spec.ladder import parse
from savile.stats import ALPHA
from tests import small_case

N = 200
LADDER = "[zero_shot, {few_shot: {k: 2}}, lora, bottleneck, ia3, {prompt_tuning: {}}]"


def rows(score: float, n: int = N, seed: int = 0) -> Array:
    """Return right and wrong rows, the right ones spread by a seed."""
    found = (np.arange(n) < round(score * n)).astype(float)
    np.random.default_rng(seed).shuffle(found)
    return found


def runner(name: str, start: float, *whole: float, family: str = "PEFT", **more: Any) -> Runner:
    made = Runner(
        name=name,
        family=family,
        start=rows(start),
        whole=tuple(rows(score) for score in whole),
        seeds=3,
        learns=True,
    )
    return replace(made, **more)


def order(race: Race, field: Sequence[Runner], ends: dict[str, tuple[float, ...]]) -> list[str]:
    """Run a race to its end; return whose runs it asked for."""
    asked: list[str] = []
    runners = {r.name: r for r in field}
    while (name := race.next(list(runners.values()))) is not None:
        asked.append(name)
        one = runners[name]
        runners[name] = replace(one, whole=(*one.whole, rows(ends[name][len(one.whole)])))
    return asked


@pytest.mark.parametrize(
    ("written", "family"),
    [
        ("few_shot", "prompting"),
        ("prompt_tuning", "prompt learning"),
        ("few_shot+prefix_tuning", "prompt learning"),
        ("prompt_tuning+lora", "PEFT"),
        ("ia3", "PEFT"),
        ("bitfit", "PEFT"),
        ("full", "fine-tuning"),
        ("last_layers", "fine-tuning"),
        ("lora+sft+dpo", "preferences"),
        ("kto", "preferences"),
        ("lora+sft+reward+ppo", "reinforcement learning"),
        ("grpo", "reinforcement learning"),
    ],
)
def test_a_family_follows_from_the_parts(written: str, family: str) -> None:
    (candidate,), faults = parse([written])
    assert not faults
    assert family_of(candidate) == family


def test_the_best_start_of_a_family_has_all_its_runs_however_bad_it_is() -> None:
    field = [
        runner("lora", 0.9),
        runner("ia3", 0.8),
        runner("prompt_tuning", 0.1, family="prompt learning"),
        runner("full", 0.2, family="fine-tuning"),
    ]
    ends = {r.name: (0.1,) * 3 for r in field} | {"lora": (1.0,) * 3}
    asked = order(Race(margin=0.05), field, ends)
    assert keepers(field) == {"lora", "prompt_tuning", "full"}
    assert {name: asked.count(name) for name in ends} == {
        "lora": 3,
        "ia3": 0,
        "prompt_tuning": 3,
        "full": 3,
    }


def test_a_technique_far_behind_is_stopped_and_a_near_one_is_not() -> None:
    race, best = Race(margin=0.05), runner("lora", 0.75, 0.8, 0.8, 0.8)
    far, near = runner("ia3", 0.2), runner("dora", 0.72)
    field = [best, far, near]
    assert race.chance(far, field).most < 0 < race.chance(near, field).most
    assert not race.chance(near, field).ceiling
    assert race.next(field) == "dora"


def test_under_a_perfect_leader_nothing_can_be_better_by_more_than_the_rest_of_the_scale() -> None:
    field = [runner("lora", 0.9, 1.0, 1.0, 1.0), runner("dora", 0.9)]
    chance = Race(margin=0.05).chance(field[1], field)
    assert chance.ceiling
    assert 0 < chance.most < 0.05
    assert Race(margin=0.05).next(field) is None
    assert Race(margin=0.01).next(field) == "dora"
    few = [replace(r, start=r.start[:50], whole=tuple(w[:50] for w in r.whole)) for r in field]
    assert Race(margin=0.05).next(few) == "dora"


def test_nobody_is_stopped_by_its_start_before_some_curve_is_known() -> None:
    prompt = runner("few_shot", 0.8, 0.8, 0.8, 0.8, family="prompting", learns=False)
    slow = [runner("lora", 0.1), runner("ia3", 0.1)]
    assert Race(margin=0.05).chance(slow[1], [prompt, *slow]).most == pytest.approx(
        1 - 0.7, abs=0.05
    )
    assert Race(margin=0.05).next([prompt, *slow]) == "lora"


def test_a_late_gain_of_one_curve_brings_those_back_that_were_left() -> None:
    race = Race(margin=0.05)
    flat = [runner("lora", 0.8, 0.8, 0.8, 0.8), runner("grpo", 0.3)]
    assert race.next(flat) is None
    late = runner("ppo", 0.4, 0.7, 0.7, 0.7, family="reinforcement learning")
    assert race.next([*flat, late]) == "grpo"


def test_seeds_are_left_out_only_beyond_what_seeds_brought_to_others() -> None:
    race = Race(margin=0.02)
    best = runner("lora", 0.9, 0.93, 0.93, 0.93)
    assert race.next([best, runner("dora", 0.9, 0.90)]) == "dora"
    assert race.next([best, runner("dora", 0.9, 0.60)]) is None


def test_a_leader_has_all_its_seeds_before_others_go_on() -> None:
    field = [runner("lora", 0.9, 0.7, 0.7, 0.7), runner("dora", 0.8, 0.9), runner("ia3", 0.85)]
    assert keepers(field) == {"lora"}
    assert leader_of(field) is field[1]
    assert Race(margin=0.05).next(field) == "dora"


def test_a_prompt_is_held_against_the_same_first_rows() -> None:
    few = first_rows(N)
    known = {"family": "prompting", "learns": False, "varies": False, "seeds": 1}
    best = runner("few_shot", 0.9, 0.9, **known)
    poor = runner("zero_shot", 0.1, **known)
    poor = replace(poor, start=poor.start[:few])
    assert few == 50
    assert Race(margin=0.05).chance(poor, [best, poor]).most < 0


def test_equal_techniques_are_called_worse_in_one_race_of_twenty_at_most() -> None:
    rng, worlds, called = np.random.default_rng(5), 60, 0
    known = {"family": "prompting", "learns": False, "varies": False, "seeds": 1}
    for _ in range(worlds):
        drawn = [(rng.random(N) < 0.7).astype(float) for _ in range(8)]
        field = [
            replace(runner(str(i), 0, **known), start=d[:50], whole=(d,) if i % 2 else ())
            for i, d in enumerate(drawn)
        ]
        called += any(Race(margin=0.05).chance(r, field).most < 0 for r in field if not r.done)
    assert called <= worlds * ALPHA + 3


# ── runs ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> tuple[Path, Path]:
    """Return the spec and the folder of a race in which nothing can be better by 0.9."""
    folder = tmp_path_factory.mktemp("raced")
    task = small_case.write_case(folder / "case", tiny_base, ladder=LADDER, more=["seeds: 2"])
    ladder.run(specs.load(task, ["budget.race=0.9"]), folder / "run")
    return task, folder / "run"


def board_of(folder: Path) -> dict[str, Any]:
    board: dict[str, Any] = RunFolder(folder).board() or {}
    return board


def timeless(value: Any) -> Any:
    """Return a board without what a clock or a memory meter said."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if "seconds" not in k and k != "peak_bytes"}
        return {k: timeless(v) for k, v in kept.items()}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def test_a_stopped_technique_has_a_dev_score_and_its_budget_and_no_test_score(
    raced: tuple[Path, Path],
) -> None:
    board = {row["technique"]: row for row in board_of(raced[1])["board"]}
    stopped = {name: row for name, row in board.items() if row["status"] == "stopped"}
    trained = [row for row in stopped.values() if row["kind"] == "tuned"]
    assert len(trained) == 2
    assert {board[name]["status"] for name in ("prompt_tuning", "majority")} == {"ok"}
    assert sum(board[name]["status"] == "ok" for name in ("lora", "bottleneck", "ia3")) == 1
    assert sum(board[name]["status"] == "ok" for name in ("zero_shot", "few_shot(k=2)")) == 1
    for row in stopped.values():
        assert (row["score"], row["low"], row["high"], row["n"]) == (None, None, None, 0)
        assert row["dev_score"] is not None
        assert re.match(r"at \d+ % of its budget, with 0\.\d{3} on ", row["reason"])
        assert not list(raced[1].glob(f"measured/{row['technique']}-*"))
    for row in trained:
        searched = row["train_examples"]
        whole = searched + 2 * (320 - searched)
        assert row["reason"].startswith(f"at {100 * searched / whole:.0f} % of its budget")
        assert 0 < searched < 320 / 2
    text = board_of(raced[1])["verdict"]["text"]
    assert "Stopped early and not measured on the test" in text
    assert all(name in text for name in stopped)


def test_a_race_that_is_stopped_anywhere_goes_on_to_the_same_board(
    raced: tuple[Path, Path], tmp_path: Path
) -> None:
    task, whole = raced
    spec, folder = specs.load(task, ["budget.race=0.9"]), tmp_path / "run"
    for units in (1, 5, 8):
        with pytest.raises(InterruptedRun):
            ladder.run(spec, folder, on_progress=small_case.stop_after(units))
    board = ladder.run(spec, folder)
    assert timeless(board) == timeless(board_of(whole))
    units = [sorted(p.relative_to(f) for p in f.glob("*/*/result.json")) for f in (folder, whole)]
    assert units[0] == units[1]


def test_a_prompt_that_went_on_answers_as_one_that_was_asked_at_once(
    raced: tuple[Path, Path], tmp_path: Path
) -> None:
    task, folder = raced
    ladder.run(specs.load(task, ["ladder=[zero_shot, {few_shot: {k: 2}}]"]), tmp_path / "run")
    compared = 0
    for file in (tmp_path / "run").glob(f"*/*/{PREDICTIONS}"):
        same = folder / file.relative_to(tmp_path / "run")
        if same.exists():
            compared += 1
            assert file.read_bytes() == same.read_bytes()
    assert compared >= 2


def test_a_margin_that_nothing_undercuts_gives_the_board_without_a_race(
    tmp_path: Path, tiny_base: Path
) -> None:
    few = "[zero_shot, {few_shot: {k: 2}}, {ia3: {}}, {lora: {learning_rate: 0.02}}]"
    task = small_case.write_case(tmp_path / "case", tiny_base, ladder=few, more=["seeds: 2"])
    raced = ladder.run(specs.load(task, ["budget.race=0.001"]), tmp_path / "raced")
    plain = ladder.run(specs.load(task), tmp_path / "plain")
    scores = [
        {row["technique"]: (row["score_by_seed"], row["train_examples"]) for row in board["board"]}
        for board in (raced, plain)
    ]
    assert scores[0] == scores[1]
    assert raced["verdict"]["text"] == plain["verdict"]["text"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["budget.race=0.05", "metric=macro_f1"], r"budget\.race.*row by row.*macro_f1"),
        (["budget.race=1"], r"budget\.race.*no two scores of accuracy.*found 1; .*less than 1"),
    ],
)
def test_a_race_that_compares_nothing_is_refused_before_a_folder_is_made(
    task: Path, tmp_path: Path, change: list[str], said: str
) -> None:
    spec = specs.load(task, change)
    with pytest.raises(UsageError, match=said):
        ladder.run(spec, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert main(["check", str(task), "--set", change[0], "--set", change[-1]]) == 2


def test_what_a_judge_compares_with_is_not_stopped() -> None:
    field = [runner("full", 0.9, 1.0, 1.0, 1.0), runner("lora", 0.1)]
    assert Race(margin=0.05).next(field) is None
    assert Race(margin=0.05, kept=frozenset({"lora"})).next(field) == "lora"


def test_a_stopped_technique_answers_nothing(raced: tuple[Path, Path]) -> None:
    stopped = [r["technique"] for r in board_of(raced[1])["board"] if r["status"] == "stopped"]
    for name in stopped:
        with pytest.raises(UsageError, match="has no measured technique"):
            Customized(raced[1], name)
