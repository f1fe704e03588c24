from dataclasses import replace
from pathlib import Path

import pytest

from savile import cli, data
from savile import spec as specs
from savile.errors import UsageError
from savile.ladder.bases import open_base
from savile.ladder.bench import Bench, bench_of
from savile.ladder.budget import SAFETY, Cost, make_plan, probe, share_of, timed_share
from savile.ladder.plan import BATCH_SIZE
from savile.prompts.base import Frame
from savile.spec import Spec
from savile.technique import build

ROWS = {"dev": 100, "test": 400}
COSTS = {
    "zero_shot": Cost(row_seconds=0.001),
    "lora": Cost(row_seconds=0.001, presentation_seconds=0.002),
    "full": Cost(row_seconds=0.001, presentation_seconds=0.003),
}


def bench(spec: Spec) -> Bench:
    base = open_base(spec.base, spec.folder, spec.compute)
    return bench_of(spec, data.load(spec), base)


def with_seconds(task: Path, seconds: float) -> Spec:
    return specs.load(task, [f"budget.seconds={seconds}"])


def test_a_given_share_is_kept_in_whole_batches(task: Path) -> None:
    assert share_of(specs.load(task), 48) == 320
    assert share_of(specs.load(task, ["budget.train_examples=333"]), 48) == 320


@pytest.mark.parametrize(
    ("ladder", "given", "said"),
    [
        ("[lora]", 9, "less than one batch; found 9; expected at least 16"),
        ("[zero_shot]", 9, None),
        ("[lora]", 16, None),
        (
            "[lora, lora+sft+grpo]",
            31,
            "less than one batch for each of the 2 objectives of 'lora+sft+grpo'; found 31; "
            "expected at least 32",
        ),
        ("[lora, lora+sft+grpo]", 32, None),
    ],
)
def test_less_than_a_step_of_every_objective_is_refused_by_check(
    task: Path, ladder: str, given: int, said: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ["--set", f"ladder={ladder}", "--set", f"budget.train_examples={given}"]
    assert cli.main(["check", str(task), *changes]) == (0 if said is None else 2)
    told = capsys.readouterr().err
    assert told == ("" if said is None else f"error: budget.train_examples: is {said}\n")


def test_time_is_divided_into_equal_presentations(task: Path) -> None:
    share = timed_share(with_seconds(task, 100), COSTS, ROWS, 100_000)
    predictions = 0.001 * (3 * 500 + 2 * 8 * 100)
    assert share * 0.005 + predictions <= SAFETY * 100
    assert (share + BATCH_SIZE) * 0.005 + predictions > SAFETY * 100
    assert timed_share(with_seconds(task, 100), COSTS, ROWS, 1_600) == 1_600


def test_copies_look_at_dev_each(task: Path) -> None:
    one = timed_share(with_seconds(task, 100), COSTS, ROWS, 100_000)
    merged = {**COSTS, "lora": replace(COSTS["lora"], copies=3)}
    three = timed_share(with_seconds(task, 100), merged, ROWS, 100_000)
    looks = 2 * (4 + 3 + 1) * ROWS["dev"]  # of two more copies: final, search, beyond its edge
    assert one - three == pytest.approx(looks * 0.001 / 0.005, abs=BATCH_SIZE)


def test_too_little_time_names_what_fits(task: Path) -> None:
    with pytest.raises(UsageError) as caught:
        timed_share(with_seconds(task, 3), COSTS, ROWS, 16_000)
    said = str(caught.value)
    assert "budget.seconds: is too little for 3 techniques" in said
    assert "found 3 seconds; expected about" in said
    assert "These fit: --only 'zero_shot'" in said


def test_time_for_nothing_names_the_cheapest(task: Path) -> None:
    with pytest.raises(UsageError, match="The cheapest, zero_shot, needs about 1 second"):
        timed_share(with_seconds(task, 0.1), COSTS, ROWS, 16_000)


def test_a_probe_leaves_the_base_as_it_was(task: Path) -> None:
    spec = specs.load(task)
    ready = bench(spec)
    before = {k: v.clone() for k, v in ready.lm.model.state_dict().items()}
    zero, _, lora, _ = [build(c, Frame()) for c in spec.candidates(frozenset({"pairs", "labels"}))]
    assert probe(ready, zero).presentation_seconds == 0
    cost = probe(ready, lora)
    assert cost.row_seconds > 0
    assert cost.presentation_seconds > 0
    assert all(v.equal(before[k]) for k, v in ready.lm.model.state_dict().items())


def test_a_timed_plan_gives_every_technique_the_same_share(task: Path) -> None:
    spec = specs.load(task, ["budget.seconds=600", "budget.train_examples=160"])
    candidates = spec.candidates(frozenset({"pairs", "labels"}))
    cells = make_plan(spec, candidates, bench(spec), 40)
    assert [cell.share for cell in cells] == [0, 0, 160, 160]
    assert [cell.technique for cell in cells] == [c.name for c in candidates]


def test_more_demonstrations_than_rows_are_refused_with_both_numbers(task: Path) -> None:
    spec = specs.load(task, ["ladder=[zero_shot, {few_shot: {k: 60}}]"])
    ready = bench(specs.load(task))
    cells = make_plan(spec, spec.candidates(frozenset({"pairs", "labels"})), ready, 40)
    assert [cell.seeds for cell in cells] == [1, 0]
    assert not cells[0].stochastic
    assert cells[1].reason == "shows 60 demonstrations, train has 48 rows"


def test_what_cannot_run_costs_no_time_and_says_why(task: Path) -> None:
    ladder = "[zero_shot, {few_shot: {k: 30}}, {lora: {target_modules: [nope]}}]"
    spec = specs.load(task, ["budget.seconds=600", f"ladder={ladder}"])
    candidates = spec.candidates(frozenset({"pairs", "labels"}))
    zero, long, lora = make_plan(spec, candidates, bench(spec), 40)
    assert (zero.reason, zero.seeds) == (None, 1)
    assert "tokens, the model's context is 256" in str(long.reason)
    assert "nope" in str(lora.reason)


def test_demonstrations_that_leave_nothing_to_train_on_are_refused(task: Path) -> None:
    ladder = "[{few_shot: {k: 48}}, {few_shot+lora: {k: 48}}]"
    spec = specs.load(task, [f"ladder={ladder}"])
    shown, tuned = make_plan(spec, spec.candidates(frozenset({"pairs"})), bench(spec), 40)
    assert shown.reason is None
    assert tuned.reason == "shows 48 demonstrations, train has 48 rows"
