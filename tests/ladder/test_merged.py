"""Merged copies on the board: their rows, their budget, and what is said when merging hurt."""

import json
from pathlib import Path
from typing import Any

import pytest

from savile import spec as specs
from savile.errors import InterruptedRun
from savile.ladder import run as ladder
from savile.ladder.folder import WEIGHTS, RunFolder, Unit
from savile.ladder.merged import notes
from savile.ladder.progress import Step
from savile.store import file_sha256
from savile.types import Prediction
from tests import small_case

RATE = "{lora: {learning_rate: 0.02}}"
TECHNIQUES = ("lora+soup", "lora+ties", "lora+dare")
LADDER = f"[{', '.join(f'{{{name}: {RATE}}}' for name in TECHNIQUES)}, prompt_tuning+soup]"
N_DEV = 200


def unit(*events: dict[str, Any]) -> Unit:
    look = {"step": 10, "dev_score": 0.5, "dev_loss": 1.0, "objective": "soup", "copy": 0}
    answers = tuple(Prediction(id=str(i), text="", answer=None) for i in range(N_DEV))
    return Unit(path=Path("unit"), result={"history": [look, *events]}, predictions=answers)


def event(best: float, merged: float, **more: Any) -> dict[str, Any]:
    known = {"copies": 3, "of": 3, "diverged": 0, "objective": "soup"}
    return {"event": "merged", "best_copy": best, "dev_score": merged, **known, **more}


@pytest.mark.parametrize(
    ("best", "merged", "said"),
    [
        (0.9, 0.9, []),
        (0.9, 0.95, []),
        (0.9, 0.86, []),  # two standard errors on 200 rows are 0.042
        (
            0.9,
            0.85,
            ["soup: merging made it worse: dev score 0.900 of the best copy, 0.850 merged"],
        ),
    ],
)
def test_a_merge_that_cost_more_than_noise_is_said(
    best: float, merged: float, said: list[str]
) -> None:
    assert notes([unit(event(best, merged))], top=1.0) == said
    assert notes([unit(event(100 * best, 100 * merged))], top=100.0) == [
        s.replace("0.900", "90.000").replace("0.850", "85.000") for s in said
    ]


def test_seeds_are_averaged_and_objectives_are_not() -> None:
    good, bad = event(0.9, 0.9), event(0.9, 0.85)
    assert notes([unit(good), unit(bad)], top=1.0) == []
    assert notes([unit(good, {**bad, "objective": "ties"})], top=1.0)[0].startswith("ties: ")


def test_copies_that_are_missing_are_said() -> None:
    some = event(0.9, 0.9, copies=2, diverged=1)
    assert notes([unit(some), unit(event(0.9, 0.9))], top=1.0) == [
        "soup: 1 of 6 copies diverged and are left out"
    ]
    few = event(0.9, 0.9, copies=2)
    assert notes([unit(few)], top=1.0) == [
        "soup: 2 copies instead of 3: its share has no more steps"
    ]


def test_what_is_not_merged_has_nothing_to_say() -> None:
    assert notes([unit()], top=1.0) == []
    assert notes([], top=1.0) == []


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a finished run of every way of merging: its task and its folder."""
    folder = tmp_path_factory.mktemp("merged")
    base = small_case.write_base(folder / "base")
    task = small_case.write_case(folder / "case", base, ladder=LADDER)
    ladder.run(specs.load(task), folder / "run")
    return task, folder / "run"


def results(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(folder.glob("trials/*/result.json"))]


def weights(folder: Path) -> dict[str, str]:
    return {f.parent.name: file_sha256(f) for f in sorted(folder.glob(f"trials/*/{WEIGHTS}"))}


def test_every_way_of_merging_is_a_row(finished: tuple[Path, Path]) -> None:
    document = RunFolder(finished[1]).board()
    assert document is not None
    rows = {row["technique"]: row for row in document["board"] if row["kind"] == "tuned"}
    assert len(rows) == len(TECHNIQUES) + 1
    for name, row in rows.items():
        assert (row["status"], row["n"]) == ("ok", 40), row["reason"]
        assert row["settings"][name.rsplit("+", 1)[1]]["copies"] == 3
    left = {name: row["train_examples"] for name, row in rows.items()}
    searched = left.pop("prompt_tuning+soup")
    assert set(left.values()) == {288}  # of 320: copies have whole batches, six each
    assert 250 < searched <= 320


def test_a_trial_reports_the_merged_state_and_keeps_it(finished: tuple[Path, Path]) -> None:
    finals = [result for result in results(finished[1]) if "labels_used" in result]
    assert len(finals) == len(TECHNIQUES) + 1
    for result in finals:
        last = result["history"][-1]
        assert (last["event"], last["copies"]) == ("merged", 3)
        assert (last["dev_score"], last["dev_loss"]) == (result["dev_score"], result["dev_loss"])
        assert last["best_copy"] == max(e["dev_score"] for e in result["history"] if "copy" in e)
    assert len(weights(finished[1])) == len(finals)


def test_a_run_that_stops_between_copies_goes_on_to_the_same_bits(
    finished: tuple[Path, Path], tmp_path: Path
) -> None:
    heard = 0

    def stop(step: Step) -> None:
        nonlocal heard
        heard += step.phase == "train"
        if heard == 9:  # the second copy of the first technique
            raise InterruptedRun("stopped")

    with pytest.raises(InterruptedRun):
        ladder.run(specs.load(finished[0]), tmp_path / "run", on_progress=stop)
    assert weights(tmp_path / "run") == {}
    ladder.run(specs.load(finished[0]), tmp_path / "run")
    assert weights(tmp_path / "run") == weights(finished[1])
