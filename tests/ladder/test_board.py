from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from savile.ladder.baselines import Baseline
from savile.ladder.board import Scale, line_of, line_of_baseline, ordered
from savile.ladder.costs import Prices, cost_of, costs_of, prices_of
from savile.ladder.folder import Unit
from savile.ladder.plan import Cell
from savile.ladder.story import Story
from savile.metrics.accuracy import Accuracy
from savile.metrics.base import Metric
from savile.metrics.bleu import Bleu
from savile.metrics.macro_f1 import MacroF1
from savile.metrics.numeric import Numeric
from savile.spec.model import Spec
from savile.types import BoardRow, Example, Prediction

TEST = [Example(id=str(i), input=f"row {i}", output="yes" if i % 2 else "no") for i in range(4)]
HERE = Path("unit")
CELL = Cell(technique="lora", kind="tuned", seeds=2, share=100)
TRAINED = {
    "status": "ok",
    "learning_rate": 0.01,
    "start_loss": 2.3,
    "dev_loss": 1.2,
    "dev_score": 0.5,
    "unit_seconds": 30.0,
    "train_seconds": 20.0,
    "examples": 60,
    "flops": 1e9,
    "peak_bytes": 100,
    "labels_used": 48,
    "artifact_bytes": 7,
    "trainable_parameters": 10,
}
MEASURED = {
    "status": "ok",
    "unit_seconds": 5.0,
    "seconds": 4.0,
    "peak_bytes": 300,
    "latency_p50_seconds": 0.1,
    "latency_p95_seconds": 0.2,
}
PIECE = {
    "status": "ok",
    "learning_rate": 0.01,
    "unit_seconds": 6.0,
    "examples": 20,
    "flops": 5e8,
}


def scale(prices: Prices | None = None) -> Scale:
    return Scale(
        metric=Accuracy(),
        test=TEST,
        labels=("yes", "no"),
        base_parameters=1_000,
        prices=prices or Prices(),
        seed=0,
    )


def answers(*given: str | None) -> tuple[Prediction, ...]:
    return tuple(
        Prediction(id=str(i), text=text or "??", answer=text, prompt_tokens=9, completion_tokens=1)
        for i, text in enumerate(given)
    )


def story(seeds: Sequence[tuple[Prediction, ...]], **changes: Any) -> Story:
    told: dict[str, Any] = {
        "cell": CELL,
        "searched": [PIECE, PIECE],
        "trials": [Unit(result=TRAINED, path=HERE) for _ in seeds],
        "measured": [Unit(result=MEASURED, predictions=p, path=HERE) for p in seeds],
        "settings": {"lora": {}},
    }
    return Story(**(told | changes))


GOOD, HALF = answers("no", "yes", "no", "yes"), answers("no", None, "no", "no")


def test_the_verdict_hears_of_chance() -> None:
    cell = Cell(technique="few_shot", kind="prompt", seeds=1, stochastic=True)
    drawn = line_of(story([GOOD], cell=cell), scale()).measured
    fixed = line_of(story([GOOD], cell=replace(cell, stochastic=False)), scale()).measured
    assert drawn is not None
    assert fixed is not None
    assert (drawn.one_seed, fixed.one_seed) == (True, False)


def test_a_row_is_the_mean_over_seeds_and_counts_what_it_cost() -> None:
    row = line_of(story([GOOD, HALF]), scale()).row
    assert (row.score, row.score_by_seed, row.seeds, row.n) == (0.75, (1.0, 0.5), 2, 4)
    assert row.low is not None
    assert row.high is not None
    assert row.low < 0.75 <= row.high <= 1.0
    assert row.unparseable == 1 / 8
    assert "no answer could be read in 12.5 % of its texts" in (row.reason or "")
    assert row.votes is None
    assert (row.search_seconds, row.train_seconds, row.predict_seconds) == (12.0, 20.0, 4.0)
    assert row.seconds == 12.0 + 30.0 + 5.0
    assert row.train_examples == 2 * 20 + 60 == CELL.share
    assert row.train_flops == 2 * 5e8 + 1e9
    assert (row.trainable_share, row.peak_bytes, row.labels_used) == (0.01, 300, 48)
    assert (row.prompt_tokens, row.completion_tokens) == (9.0, 1.0)
    assert row.usd_once is row.usd_per_1000 is None


def test_prices_become_money() -> None:
    row = line_of(story([GOOD, HALF]), scale(Prices(label=0.5, hour=3.6))).row
    assert row.usd_once == pytest.approx(48 * 0.5 + (12 + 20) * 0.001)
    assert row.usd_per_1000 == pytest.approx(4.0 / 4 * 1000 * 0.001)


def test_mistakes_show_what_was_asked_wanted_and_got() -> None:
    row = line_of(story([HALF, GOOD]), scale()).row
    assert list(row.mistakes) == [
        {"input": "row 1", "expected": "yes", "got": "(no answer in it) ??"},
        {"input": "row 3", "expected": "yes", "got": "no"},
    ]


def test_one_seed_that_failed_leaves_the_row_without_a_score() -> None:
    failed = {"status": "diverged", "reason": "diverged at step 3", "unit_seconds": 2.0}
    trials = [Unit(result=TRAINED, path=HERE), Unit(result=failed, path=HERE)]
    line = line_of(story([GOOD], trials=trials, measured=[]), scale())
    assert (line.row.status, line.row.reason) == ("diverged", "diverged at step 3")
    assert line.row.score is None
    assert line.measured is None


def test_a_search_in_which_every_rate_failed_says_why() -> None:
    failed = {"status": "failed", "reason": "out of memory", "unit_seconds": 2.0}
    line = line_of(story([], searched=[failed, failed]), scale())
    assert (line.row.status, line.row.reason) == ("failed", "out of memory")


def test_what_the_plan_leaves_out_is_not_run() -> None:
    cell = Cell(technique="lora", kind="tuned", seeds=0, reason="needs pairs")
    row = line_of(story([], cell=cell, searched=[]), scale()).row
    assert (row.status, row.reason, row.seconds) == ("not_run", "needs pairs", 0)


def test_a_baseline_is_scored_like_everything_else() -> None:
    line = line_of_baseline(Baseline(name="majority", predictions=GOOD, seconds=0.1), 48, scale())
    assert (line.row.kind, line.row.score, line.row.labels_used) == ("baseline", 1.0, 48)
    assert line.measured is not None
    assert line.measured.kind == "baseline"


def test_rows_are_ordered_by_score_and_what_has_none_is_last() -> None:
    def row(name: str, score: float | None) -> BoardRow:
        return BoardRow(technique=name, kind="prompt", status="ok", score=score)

    rows = [row("b", 0.5), row("x", None), row("a", 0.5), row("c", 0.9), row("z", 0.0)]
    assert [r.technique for r in ordered(rows)] == ["c", "a", "b", "z", "x"]


def test_the_tied_are_ranked_by_what_does_not_depend_on_the_clock() -> None:
    slow, fast = (line_of(story([GOOD, p]), scale()).row for p in (GOOD, HALF))
    assert cost_of(slow) == cost_of(fast) == 2e9 + 1000 * 2 * 1_000 * 10
    paid = line_of(story([GOOD, GOOD]), scale(Prices(label=0.5, hour=3.6))).row
    assert cost_of(paid) == pytest.approx(24.032 + 1.0)


@pytest.mark.parametrize(
    ("prices", "counted"),
    [
        (Prices(), "FLOPs for training and the first 1,000 requests"),
        (Prices(hour=1.0), "USD for training and the first 1,000 requests"),
        (Prices(label=1.0), "USD for labels"),
        (Prices(label=1.0, hour=1.0), "USD for labels, training and the first 1,000 requests"),
    ],
)
def test_a_cost_says_what_was_counted(prices: Prices, counted: str) -> None:
    against = scale(prices)
    row = line_of(story([GOOD, HALF]), against).row
    assert costs_of([row], against.prices) == (
        counted,
        {"lora": cost_of(row)},
    )


def test_a_price_that_is_not_given_is_no_money_on_the_board() -> None:
    spec = Spec.model_validate({"task": "t", "data": {"test": "t"}, "prices": {"label": 0.05}})
    row = line_of(story([GOOD, HALF]), scale(prices_of(spec, "cpu"))).row
    assert row.usd_once == pytest.approx(48 * 0.05)
    assert row.usd_per_1000 is None


def mistakes_of(metric: Metric, wanted: Sequence[str], given: Sequence[str | None]) -> list[str]:
    test = [Example(id=str(i), input="?", output=text) for i, text in enumerate(wanted)]
    against = replace(scale(), metric=metric, test=test, labels=())
    row = line_of(story([answers(*given)] * 2), against).row
    return [mistake["got"] for mistake in row.mistakes]


def test_mistakes_are_what_the_metric_counts_as_wrong() -> None:
    assert mistakes_of(Numeric(), ["42", "7"], ["So it is 42.0", "8"]) == ["8"]
    assert mistakes_of(Accuracy(), ["a", "b"], [" a ", None]) == ["(no answer in it) ??"]


def test_the_worst_mistakes_of_a_graded_metric_come_first() -> None:
    wanted = ["two words", "a b c d e f", "a b c d e f"]
    assert mistakes_of(Bleu(), wanted, ["two words", "a b c d e g", "x y"]) == [
        "x y",
        "a b c d e g",
    ]


def test_a_row_without_a_score_counts_seconds_as_one_with_a_score() -> None:
    late = {"status": "failed", "reason": "out of memory", "unit_seconds": 5.0}
    measured = [Unit(result=late, path=HERE) for _ in range(2)]
    row = line_of(story([GOOD, HALF], measured=measured), scale()).row
    assert (row.status, row.seconds) == ("failed", 12.0 + 30.0 + 5.0)


def test_what_cut_the_search_short_is_said_on_the_row() -> None:
    row = line_of(story([GOOD, GOOD], cell=replace(CELL, note="too few")), scale()).row
    assert (row.status, row.reason) == ("ok", "too few")


def test_a_row_that_was_still_improving_says_so_beside_other_notes() -> None:
    looks = [(1, 2.0), (2, 1.8), (3, 1.62), (4, 1.47)]
    history = [{"step": n, "dev_score": 0.2, "dev_loss": loss} for n, loss in looks]
    trials = [Unit(result={**TRAINED, "history": history}, path=HERE)] * 2
    cell = replace(CELL, note="too few")
    line = line_of(story([GOOD, HALF], trials=trials, cell=cell), scale())
    assert line.improving
    assert line.row.reason == (
        "no answer could be read in 12.5 % of its texts, which count as wrong; too few; "
        "still improving when its budget ended: dev loss 1.62 -> 1.47 over its last 25 %; "
        "give it more budget.train_examples"
    )
    assert not line_of(story([GOOD, HALF]), scale()).improving


def test_other_metrics_score_the_same_answers_and_leave_the_score_alone() -> None:
    plain = line_of(story([GOOD, HALF]), scale()).row
    row = line_of(story([GOOD, HALF]), replace(scale(), also={"macro_f1": MacroF1()})).row
    labels = ("yes", "no")
    expected = [
        MacroF1().score([p.answer for p in seed], [e.accepted for e in TEST], labels)
        for seed in (GOOD, HALF)
    ]
    beside = row.compared["macro_f1"]
    assert beside["value"] == pytest.approx(sum(expected) / 2)
    assert beside["low"] < beside["value"] <= beside["high"]
    assert (row.score, row.low, row.high) == (plain.score, plain.low, plain.high)
    baseline = Baseline(name="majority", predictions=HALF, seconds=1.0)
    one = line_of_baseline(baseline, 4, replace(scale(), also={"macro_f1": MacroF1()})).row
    assert one.compared["macro_f1"]["value"] == pytest.approx(expected[1])


def test_a_row_that_did_not_converge_says_so() -> None:
    stuck = [Unit(result={**TRAINED, "dev_loss": 2.4}, path=HERE)] * 2
    line = line_of(story([GOOD, HALF], trials=stuck), scale())
    assert "did not converge: dev loss 2.30 before training, 2.40" in (line.row.reason or "")
    assert not line.fell
    pieces = [{**PIECE, "learning_rate": rate, "dev_score": 0.5} for rate in (0.01, 0.04, 0.16)]
    line = line_of(story([GOOD, HALF], searched=pieces), scale())
    assert "is the lowest of 3 that were tried" in (line.row.reason or "")
    assert line.fell
