"""What ends a technique, and what ends the run."""

import errno
from pathlib import Path

import pytest

from savile import spec as specs
from savile import store
from savile.errors import DiskProblem, EnvironmentProblem, Problem
from savile.ladder import run as ladder
from savile.ladder import trial
from savile.ladder.trial import Outcome, guarded
from tests import small_case


def raising(error: Exception) -> Outcome:
    raise error


def test_an_error_of_a_technique_is_its_row() -> None:
    error = EnvironmentProblem(Problem(what="no such library"))
    assert guarded(lambda: raising(error)).result == {
        "status": "failed",
        "reason": "no such library",
    }


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_ends_the_run(code: int, tmp_path: Path) -> None:
    said = OSError(code, "full", str(tmp_path / "x"))
    with pytest.raises(DiskProblem, match="no space to write"):
        guarded(lambda: raising(said))
    with pytest.raises(DiskProblem) as found:
        guarded(lambda: raising(store.disk_problem(said, tmp_path)))
    assert found.value.exit_code == 4


def test_another_error_of_the_system_is_a_bug() -> None:
    with pytest.raises(OSError, match="is a folder"):
        guarded(lambda: raising(IsADirectoryError(errno.EISDIR, "is a folder")))


def test_a_run_whose_disk_was_full_inside_a_trial_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = small_case.write_base(tmp_path / "base")
    ladders = "[zero_shot, {few_shot: {k: 2}}]"
    spec = specs.load(small_case.write_case(tmp_path / "case", base, ladder=ladders))
    work, calls = trial.predict, []

    def fills_up(*given: object, **named: object) -> object:
        calls.append(given)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return work(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(trial, "predict", fills_up)
    with pytest.raises(DiskProblem):
        ladder.run(spec, tmp_path / "run")
    assert len(list((tmp_path / "run" / "trials").iterdir())) == 1
    document = ladder.run(spec, tmp_path / "run")
    assert {row["status"] for row in document["board"]} == {"ok"}
