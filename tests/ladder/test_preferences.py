"""Techniques trained on preferences and rewards, through the whole ladder, on a tiny base."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from savile import data
from savile import spec as specs
from savile.chain import Chained, judge_state, reward_of, train_chain
from savile.deltas.lora import LoRA
from savile.errors import DataError
from savile.job import Job, Plan
from savile.ladder import run as ladder
from savile.ladder.comparison import mean_and_half, on_dev, summary, warnings
from savile.ladder.folder import JUDGE, START
from savile.ladder.prepare import without_settings
from savile.ladder.rewards import by_metric
from savile.ladder.task import MOST_JUDGES, judges
from savile.lm.model import LM
from savile.metrics.exact_match import ExactMatch
from savile.objectives.base import Compared, Encoded, Objective, TrainingData, Written
from savile.objectives.dpo import DPO
from savile.objectives.kto import KTO
from savile.objectives.orpo import ORPO
from savile.objectives.reward import RewardModel
from savile.objectives.sft import SFT
from savile.prompts.base import Frame
from savile.train import train
from savile.types import Example, Preference
from tests import small_case, tiny
from tests.contracts.tree_gate import shake
from tests.gates import Gate

CHAINS = ("lora+dpo", "lora+kto", "lora+reward+ppo", "lora+sft+grpo")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, dict[str, Any]], Path]:
    folder = tmp_path_factory.mktemp("preferences")
    base = small_case.write_base(folder / "base")
    items = ", ".join(f"{{{name}: {{lora: {{learning_rate: 0.02}}}}}}" for name in CHAINS)
    task = small_case.write_case(folder / "case", base, ladder=f"[{items}, lora+orpo+reward]")
    text = task.read_text(encoding="utf-8")
    judged = [
        {"prompt": f"{verb} {noun}", "chosen": "yes" if noun[0] <= "k" else "no",
         "rejected": "no" if noun[0] <= "k" else "yes"}
        for verb in small_case.VERBS for noun in small_case.NOUNS
    ]  # fmt: skip
    lines = "".join(json.dumps(row) + "\n" for row in judged)
    (task.parent / "judged.jsonl").write_text(lines, encoding="utf-8")
    text = text.replace("leak: allow", "leak: allow, preferences: judged.jsonl")
    task.write_text(text.replace("train_examples: 320", "train_examples: 96"), encoding="utf-8")
    document = ladder.run(specs.load(task), folder / "run")
    return {row["technique"]: row for row in document["board"]}, folder / "run"


@pytest.mark.parametrize("chain", CHAINS)
def test_a_row_says_how_its_policy_differs_from_its_start(
    board: tuple[dict[str, dict[str, Any]], Path], chain: str
) -> None:
    (row,) = [row for name, row in board[0].items() if without_settings(name) == chain]
    assert row["status"] == "ok", row["reason"]
    compared = row["compared"]
    assert {"win_rate", "kl", "preference_accuracy", "chosen_moved"} <= set(compared)
    assert "score_moved" in compared
    assert ("reward_moved" in compared) is chain.endswith(("ppo", "grpo"))
    for values in compared.values():
        assert values["low"] <= values["value"] <= values["high"]
        assert values["n"] > 1
    assert 0 <= compared["win_rate"]["low"] <= compared["win_rate"]["high"] <= 1
    assert ("reward_accuracy" in compared) is ("reward" in chain)
    if "reward" in chain:
        assert compared["length_accuracy"]["n"] == compared["reward_accuracy"]["n"]


def test_the_start_and_the_judge_are_kept_beside_the_weights(
    board: tuple[dict[str, dict[str, Any]], Path],
) -> None:
    units = {unit.name: unit for unit in (board[1] / "trials").iterdir()}
    finals = [unit for name, unit in units.items() if "search" not in name]
    with_start = [unit for unit in finals if (unit / START).is_file()]
    with_judge = [unit for unit in finals if (unit / JUDGE).is_file()]
    assert len(with_start) == len(CHAINS) + 1
    assert len(with_judge) == 2


def test_a_plain_tuning_is_compared_with_nothing(tmp_path: Path) -> None:
    base = small_case.write_base(tmp_path / "base")
    task = small_case.write_case(tmp_path / "case", base, ladder="[{lora: {learning_rate: 0.02}}]")
    document = ladder.run(specs.load(task), tmp_path / "run")
    (row,) = [row for row in document["board"] if row["kind"] == "tuned"]
    assert row["compared"] == {}


def test_without_preferences_a_row_says_what_it_needs(tmp_path: Path) -> None:
    base = small_case.write_base(tmp_path / "base")
    task = small_case.write_case(tmp_path / "case", base, ladder="[zero_shot, lora+dpo]")
    document = ladder.run(specs.load(task), tmp_path / "run")
    (row,) = [row for row in document["board"] if row["technique"] == "lora+dpo"]
    assert row["status"] == "not_run"
    assert row["reason"].startswith("needs preference pairs")


def test_a_judge_that_is_read_back_gives_the_same_rewards(gate: Gate) -> None:
    lm, objective = tiny.lm("llama"), RewardModel()
    rows = [Encoded([1, 20, 21], []), Encoded([1, 22], [])]
    written = [Written(0, [50, 4]), Written(1, [51, 52, 4]), Written(0, [])]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        heads = objective.modules(lm)
    with LoRA(r=2).attach(lm, 0) as attached:
        shake(attached)
        judge, policy = judge_state(attached, heads), attached.state()
        lm.heads = heads
        wanted = objective.rewards(lm, rows, written)
        lm.heads = {}
        shake(attached, seed=8)
        moved = attached.state()
        found = reward_of(objective, attached, judge)(rows)(written)
        assert found == wanted
        apart = max(abs(a - b) for a, b in zip(found, wanted, strict=True))
        gate(objective, "export", apart, JUDGE)
        assert all(torch.equal(moved[k], v) for k, v in attached.state().items())
        assert not all(torch.equal(moved[k], v) for k, v in policy.items())
    assert lm.heads == {}


def test_no_answers_have_no_rewards() -> None:
    lm, objective = tiny.lm("llama"), RewardModel()
    lm.heads = objective.modules(lm)
    assert objective.rewards(lm, [Encoded([1, 20], [])], []) == []


def test_shares_stay_between_0_and_1() -> None:
    found = summary([{"reward_accuracy": [1.0, 1.0, 1.0, 0.0], "kl": [0.1, 0.0, 0.0, 0.0]}])
    assert 0.75 < found["reward_accuracy"]["high"] <= 1.0
    assert found["kl"]["low"] < 0


def test_rewards_do_not_depend_on_their_neighbors() -> None:
    lm, objective = tiny.lm("gpt2"), RewardModel()
    lm.heads = objective.modules(lm)
    rows = [Encoded([1, *range(20, 20 + n)], []) for n in range(1, 8)]
    written = [Written(n % 7, [50 + n % 5] * (n % 4 + 1)) for n in range(20)]
    together = objective.rewards(lm, rows, written)
    alone = [objective.rewards(lm, rows, [one])[0] for one in written]
    assert together == pytest.approx(alone, abs=1e-5)


def test_a_reward_model_learns_what_is_preferred() -> None:
    lm, objective = tiny.lm("llama"), RewardModel()
    pairs = [Compared([1, 20 + n], [50, 4], [51, 4]) for n in range(12)]
    data = TrainingData(preferences=pairs, batch_size=12, tokens_per_tree=4096)
    lm.heads = objective.modules(lm)
    items = objective.items(lm, data)
    parameters = list(lm.heads["reward"].parameters())
    for p in parameters:
        p.requires_grad_()
    optimizer = torch.optim.AdamW(parameters, lr=0.05)
    before = objective.judge(lm, data, items)[1]
    for _ in range(30):
        optimizer.zero_grad()
        (batch,) = objective.trees(items, 4096)
        objective.loss(lm, batch)[0].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    accuracy, after = objective.judge(lm, data, items)
    assert accuracy == 1.0
    assert after < 0.2 * before


def preferred(rows: list[Example]) -> list[Preference]:
    return [Preference(id=r.id, input=r.input, chosen=r.output, rejected="other") for r in rows]


def job(lm: LM, rows: list[Example], dev_preferences: list[Preference]) -> Job:
    return Job(
        lm=lm,
        objective=DPO(),
        frame=Frame(),
        train=rows,
        dev=rows,
        metric=ExactMatch(),
        plan=Plan(learning_rate=1e-3, examples=32, batch_size=8, evaluations=1),
        seed=0,
        max_new_tokens=4,
        preferences=preferred(rows),
        dev_preferences=dev_preferences,
        reward=by_metric(lm, Frame(), ExactMatch()),
    )


@pytest.mark.parametrize("objective", [DPO(), KTO(), ORPO(), RewardModel()])
def test_without_a_dev_preference_training_is_refused_in_words(
    trained_lm: LM, eight: list[Example], objective: Objective
) -> None:
    given = replace(job(trained_lm, eight, []), objective=objective)
    with (
        LoRA(r=2).attach(trained_lm, 0) as attached,
        pytest.raises(DataError, match="no dev preference"),
    ):
        train(given, attached)


def test_a_chain_that_ends_with_a_reward_model_has_its_policy_s_score(
    trained_lm: LM, eight: list[Example]
) -> None:
    with LoRA(r=2).attach(trained_lm, 0) as attached:
        given = job(trained_lm, eight, preferred(eight))
        made = train_chain(given, [ORPO(), RewardModel()], attached)
        policy = [entry for entry in made.trained.history if entry["objective"] == "orpo"]
        assert made.trained.dev_score == policy[-1]["dev_score"]
        assert made.trained.dev_loss == policy[-1]["dev_loss"]
        assert made.trained.heads == {}
        assert made.reward is None
        assert set(on_dev(given, attached, made)) == {"score_moved"}


def test_shown_rows_count_in_the_comparison(trained_lm: LM, eight: list[Example]) -> None:
    """Every seed compares the same rows, whichever it shows."""
    given = replace(
        job(trained_lm, eight, preferred(eight)), frame=Frame(demonstrations=(eight[0],))
    )
    with LoRA(r=2).attach(trained_lm, 0) as attached:
        made = Chained(
            trained=train(given, attached),
            start=attached.state(),
            tuned_start=False,
            judge={},
            reward=given.reward,
        )
        moved = on_dev(given, attached, made)
    assert {name: len(values) for name, values in moved.items()} == {
        "reward_moved": 8,
        "score_moved": 8,
    }


def test_the_interval_covers_rows_and_seeds() -> None:
    rng, hits, worlds = np.random.default_rng(0), 0, 400
    for _ in range(worlds):
        seeds = rng.normal(0, 0.2, size=(3, 1))
        mean, half = mean_and_half(seeds + rng.normal(0.5, 1.0, size=(3, 60)))
        hits += abs(mean - 0.5) <= half
    assert hits / worlds >= 0.93


def test_the_interval_covers_with_three_rows_and_one_seed() -> None:
    rng = np.random.default_rng(0)
    found = [mean_and_half(rng.normal(0.5, 1.0, size=(1, 3))) for _ in range(400)]
    assert sum(abs(mean - 0.5) <= (half or 0.0) for mean, half in found) / 400 >= 0.93


def test_a_share_of_few_rows_that_agree_is_not_certain() -> None:
    won = summary([{"win_rate": [1.0] * 5, "preference_accuracy": [0.5] * 5}])
    assert won["win_rate"]["low"] == pytest.approx(0.566, abs=0.001)  # Wilson's, of 5 of 5
    assert won["win_rate"]["high"] == 1.0
    assert won["preference_accuracy"]["low"] < 0.2 < 0.8 < won["preference_accuracy"]["high"]


def test_trouble_is_said_in_words() -> None:
    ranked = {"chosen_moved": [-2.0, -1.5, -2.5, -2.2], "preference_accuracy": [1.0] * 4}
    (said,) = warnings(summary([ranked]), tuned_start=False)
    assert "chosen answers became less likely (by 2.0 nats" in said
    assert said.endswith("a larger beta or SFT on the chosen answers first helps")
    (said,) = warnings(summary([ranked]), tuned_start=True)
    assert said.endswith("; a larger beta helps")
    better = {**ranked, "score_moved": [0.3, 0.2, 0.4, 0.3]}
    (said,) = warnings(summary([better]), tuned_start=True)
    assert said.endswith(
        "rose by 0.3 on dev all the same: it writes better answers than the chosen ones"
    )
    unranked = {**ranked, "preference_accuracy": [1.0, 0.0, 1.0, 0.0]}
    assert warnings(summary([unranked]), tuned_start=False) == []
    gamed = summary([{"reward_moved": [1.0, 1.1, 0.9], "score_moved": [-0.2, -0.3, -0.25]}])
    assert "games the reward" in warnings(gamed, tuned_start=False)[0]
    fine = summary([{"reward_moved": [1.0, 1.1, 0.9], "score_moved": [0.2, 0.3, 0.25]}])
    assert warnings(fine, tuned_start=False) == []


def test_a_single_row_has_no_interval_and_no_verdict() -> None:
    one = {"chosen_moved": [-9.0], "preference_accuracy": [1.0], "reward_moved": [3.0]}
    found = summary([one, {**one, "chosen_moved": [-8.0]}])
    assert found["chosen_moved"] == {"value": -8.5, "n": 1.0}
    assert warnings(summary([{**one, "score_moved": [-1.0]}]), tuned_start=False) == []


def test_what_is_compared_knows_whether_its_start_was_trained(
    trained_lm: LM, eight: list[Example]
) -> None:
    given = job(trained_lm, eight, preferred(eight))
    for chain, tuned in (([DPO()], False), ([SFT(), DPO()], True), ([RewardModel(), DPO()], False)):
        with LoRA(r=2).attach(trained_lm, 0) as attached:
            assert train_chain(given, chain, attached).tuned_start is tuned


@pytest.mark.parametrize(
    ("answer", "status"), [("yes", "not_run"), ("it is so. Answer: yes", None)]
)
def test_a_chain_of_thought_learns_preferences_among_answers_with_steps(
    tmp_path: Path, answer: str, status: str | None
) -> None:
    """From answers without the marker it would unlearn to write what its answers are read by."""
    base = small_case.write_base(tmp_path / "base")
    task = small_case.write_case(tmp_path, base, ladder="[lora+dpo, chain_of_thought+lora+dpo]")
    judged = [{"prompt": f"is it {n}", "chosen": answer, "rejected": "no"} for n in range(40)]
    lines = "".join(json.dumps(row) + "\n" for row in judged)
    (tmp_path / "judged.jsonl").write_text(lines, encoding="utf-8")
    text = task.read_text(encoding="utf-8")
    text = text.replace("leak: allow", "leak: allow, preferences: judged.jsonl")
    task.write_text(text, encoding="utf-8")
    spec = specs.load(task)
    plain, stepwise = spec.candidates(data.load(spec).gives)
    assert plain.reason is None
    if status is None:
        assert stepwise.reason is None
    else:
        assert stepwise.reason == (
            "needs preference pairs whose chosen answers all show steps, then "
            "prompt.answer_marker and the answer"
        )


def test_dev_preferences_are_capped_like_dev_rows() -> None:
    many = [Preference(id=f"{n:04}", input="a", chosen="b", rejected="c") for n in range(999)]
    kept = judges(many[::-1])
    assert [row.id for row in kept] == [f"{n:04}" for n in range(MOST_JUDGES)]
