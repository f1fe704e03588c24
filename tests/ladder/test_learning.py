"""What is said of a technique whose training taught it nothing, and what it is held against."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from savile import spec as specs
from savile.ladder import run as ladder
from savile.ladder import slowed
from savile.ladder.folder import RunFolder, Unit, unit_id
from savile.ladder.learning import not_converged, starts_of, taught
from savile.ladder.progress import Step
from savile.ladder.verdict import Start
from savile.spec import Candidate
from savile.types import BoardRow, Kind, Prediction
from tests import small_case

Row = dict[str, Any]


def trial(
    start: float | None, end: float | None, *, rate: float = 0.01, score: float = 0.3
) -> Unit:
    told = {"start_loss": start, "dev_loss": end, "dev_score": score, "learning_rate": rate}
    answers = tuple(Prediction(id=str(n), text="", answer=None) for n in range(200))
    return Unit(path=Path("unit"), result=told, predictions=answers)


def pieces(*rates: float, score: float = 0.3) -> list[Row]:
    return [{"learning_rate": rate, "dev_score": score} for rate in rates]


@pytest.mark.parametrize(
    ("trials", "said"),
    [
        ([trial(1.4, 0.3), trial(1.4, 0.4)], None),
        ([trial(1.4, 1.7), trial(1.4, 1.39)], "did not converge: dev loss 1.40 before training"),
        ([trial(1.4, 1.7), trial(1.4, 0.3)], "did not converge with 1 of 2 seeds: dev loss 1.40"),
        ([trial(None, 1.7), trial(1.4, None)], None),
    ],
)  # fmt: skip
def test_a_loss_that_did_not_fall_is_said_of_as_many_seeds(
    trials: Sequence[Unit], said: str | None
) -> None:
    found = not_converged((), trials, 1.0)
    assert (found or "").startswith(said or "")
    assert (found is None) == (said is None)


def test_a_taught_when_it_fell_with_some_seed() -> None:
    assert taught([trial(1.4, 1.7), trial(1.4, 0.3)], {}) is True
    assert taught([trial(1.4, 1.7), trial(1.4, 1.39)], {}) is False
    assert taught([trial(None, 1.7), trial(1.4, None)], {}) is None
    assert taught([], {}) is None


def test_a_loss_of_pairs_is_told_apart_by_its_part_of_the_start() -> None:
    assert taught([trial(0.693, 0.684)], {}) is True
    assert taught([trial(0.693, 0.690)], {}) is False


@pytest.mark.parametrize(("low", "found"), [(0.56, True), (0.48, False)])
def test_who_ranks_unseen_pairs_right_has_learned_though_its_loss_rose(
    low: float, found: bool
) -> None:
    right = {"preference_accuracy": {"value": 0.62, "low": low, "high": 0.67}}
    assert taught([trial(0.69, 0.71)], right) is found


def test_the_advice_fits_a_rate_that_was_given_and_one_that_was_searched() -> None:
    stuck = [trial(1.4, 1.7, rate=0.6)]
    assert "without the given learning rate, 0.6, it is searched" in (
        not_converged((), stuck, 1.0) or ""
    )
    searched = not_converged(pieces(0.6, 0.01), stuck, 1.0)
    assert searched is not None
    assert "none of 2 learning rates was right" in searched


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ((0.9, 0.8), None),
        ((0.31, 0.9), "did not converge with 1 of 2 seeds: dev score 0.310, 0.845 after the"),
        ((0.31, 0.35), "did not converge: dev score 0.330, 0.845 after the search's short run"),
    ],
)  # fmt: skip
def test_a_long_run_that_ends_below_the_short_one_is_said(
    scores: Sequence[float], said: str | None
) -> None:
    searched = pieces(0.01, 0.04, 0.0025, score=0.845)
    found = not_converged(searched, [trial(1.4, 0.7, score=score) for score in scores], 1.0)
    assert (found or "").startswith(said or "")
    assert (found is None) == (said is None)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (0.64, "0.64, is the highest of 4 that were tried, and a higher one may be better"),
        (0.01, "0.01, is the lowest of 4 that were tried, and a lower one may be better"),
        (0.04, None),
    ],
)
def test_a_search_that_ended_at_an_edge_says_at_which(chosen: float, said: str | None) -> None:
    searched = pieces(0.01, 0.04, 0.16, 0.64)
    found = not_converged(searched, [trial(1.4, 0.3, rate=chosen)], 1.0)
    assert (said or "") in (found or "")
    assert (found is None) == (said is None)
    assert not_converged(searched, [trial(1.4, 0.0, rate=chosen, score=1.0)], 1.0) is None


def row(name: str, kind: Kind) -> BoardRow:
    return BoardRow(technique=name, kind=kind, status="ok", score=0.5)


def test_a_tuned_row_is_held_against_its_own_prompt_on_its_own_base() -> None:
    lora = (("lora", {}),)
    shown = (("few_shot", {"k": 4}),)
    candidates = [
        Candidate(name="zero_shot", prompts=(("zero_shot", {}),)),
        Candidate(name="zero_shot on b", base=1),
        Candidate(name="few_shot", prompts=shown),
        Candidate(name="lora", deltas=lora),
        Candidate(name="lora on b", deltas=lora, base=1),
        Candidate(name="few_shot+lora", prompts=shown, deltas=lora),
        Candidate(name="few_shot(k=8)+lora", prompts=(("few_shot", {"k": 8}),), deltas=lora),
    ]
    rows = [row(c.name, "tuned" if c.deltas else "prompt") for c in candidates]
    rows.append(row("majority", "baseline"))
    fell = {"lora": False, "lora on b": True, "few_shot+lora": None}
    assert starts_of(rows, fell, candidates) == [
        Start("lora", "zero_shot", False),
        Start("lora on b", "zero_shot on b", True),
        Start("few_shot+lora", "few_shot", None),
        Start("few_shot(k=8)+lora", "majority", None),
    ]
    without = [r for r in rows if r.kind == "tuned"]
    assert {start.against for start in starts_of(without, {}, candidates)} == {None}


def test_a_rate_that_teaches_nothing_is_said_on_the_row_and_in_the_verdict(
    tmp_path: Path, tiny_base: Path
) -> None:
    items = "[zero_shot, {lora: {learning_rate: 1e-9}}]"
    task = small_case.write_case(tmp_path / "case", tiny_base, ladder=items)
    board = ladder.run(specs.load(task), tmp_path / "run")
    rows = {one["technique"]: one for one in board["board"]}
    name = "lora(learning_rate=1e-09)"
    assert "without the given learning rate, 1e-09, it is searched" in rows[name]["reason"]
    score = rows["zero_shot"]["score"]
    nothing = f"Learned nothing, for the dev loss did not fall: {name} ({score:.3f}; zero_shot "
    assert nothing in board["verdict"]["text"]


def test_a_search_starts_where_the_spec_says_and_stays_inside_the_share(
    tmp_path: Path, tiny_base: Path
) -> None:
    task = small_case.write_case(tmp_path / "case", tiny_base, ladder="[lora]")
    own, high = (_searched(task, tmp_path / f"{factor}", factor) for factor in ("1", "1000"))
    assert high.rates[0] == pytest.approx(1000 * own.rates[0], rel=0.01)
    assert {len(own.rates), len(high.rates)} <= {3, 4}
    for one in (own, high):
        assert len(one.starts) == 1
        assert 0.95 * 320 <= one.row["train_examples"] <= 320
        assert one.done == pytest.approx(one.total)


class _Searched(NamedTuple):
    """What a run of one technique came to."""

    row: Row
    rates: list[float]
    starts: set[float]
    done: float
    total: float


def _searched(task: Path, out: Path, factor: str) -> _Searched:
    steps: list[Step] = []
    spec = specs.load(task, [f"budget.search_from={factor}"])
    board = ladder.run(spec, out, on_progress=steps.append)
    units = [RunFolder(out).read(f"trials/{unit_id('lora', 0, piece)}") for piece in range(4)]
    pieces = [unit.result for unit in units if unit is not None]
    return _Searched(
        row=next(one for one in board["board"] if one["technique"] == "lora"),
        rates=[piece["learning_rate"] for piece in pieces],
        starts={piece["start_loss"] for piece in pieces},
        done=steps[-1].done,
        total=steps[-1].total,
    )


def test_a_row_says_with_how_many_seeds_its_training_collapsed() -> None:
    collapse = {"step": 4, "event": "rollback", "why": "collapsed", "slowdown": 0.25}
    halved = {"step": 2, "event": "rollback", "why": "not finite", "slowdown": 0.5}
    units = [
        Unit(path=Path("unit"), result={"history": history}, predictions=())
        for history in ([collapse, {**collapse, "slowdown": 0.0625}], [halved], [])
    ]
    assert slowed.note(units) == (
        "its training collapsed with 1 of 3 seeds and went on from its best state at 0.0625 of the "
        "learning rate"
    )
    assert slowed.note(units[1:]) is None
