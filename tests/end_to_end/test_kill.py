"""`kill -9` at any moment: what is committed stays, and the run goes on to the same board."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import savile
from savile import spec as specs
from savile import store
from savile.ladder import run as ladder
from savile.ladder.folder import PREDICTIONS, WEIGHTS, RunFolder
from tests import small_case

STOPS = (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL)
PACKAGE = Path(savile.__file__).parent


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the source, so that nobody's edit makes a resumed run another run."""
    copy = tmp_path_factory.mktemp("source")
    shutil.copytree(PACKAGE, copy / "savile", ignore=shutil.ignore_patterns("large", "cases"))
    return copy


def start(source: Path, task: Path, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "savile", "run", str(task), "--out", str(folder), "--quiet"]
    silent = subprocess.DEVNULL
    env = {**os.environ, "PYTHONPATH": str(source)}
    return subprocess.Popen(command, stdout=silent, stderr=silent, start_new_session=True, env=env)


def timeless(value: Any) -> Any:
    """Return a board without what a clock or a memory meter said."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if "seconds" not in k and k != "peak_bytes"}
        return {k: timeless(v) for k, v in kept.items()}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def sums(folder: Path) -> dict[str, str]:
    files = sorted([*folder.glob(f"trials/*/{WEIGHTS}"), *folder.glob(f"*/*/{PREDICTIONS}")])
    return {str(f.relative_to(folder)): store.file_sha256(f) for f in files}


def wait_for_units(process: subprocess.Popen[bytes], folder: Path, units: int) -> None:
    """Wait until `units` more are committed, or the process ends."""
    before = len(list(folder.glob("*/*/result.json")))
    while process.poll() is None and len(list(folder.glob("*/*/result.json"))) < before + units:
        time.sleep(0.005)


def test_killed_and_interrupted_and_still_the_same_board(source: Path, tmp_path: Path) -> None:
    task = small_case.write_case(tmp_path / "case", small_case.write_base(tmp_path / "base"))
    whole, killed = tmp_path / "whole" / "run", tmp_path / "killed" / "run"
    ladder.run(specs.load(task), whole)
    rng = random.Random(7)
    for number in STOPS:
        process = start(source, task, killed)
        wait_for_units(process, killed, 1 + rng.randrange(2))
        time.sleep(rng.random() * 0.1)
        os.killpg(process.pid, number)
        assert process.wait() == (75 if number != signal.SIGKILL else -number)
        assert RunFolder(killed).board() is None
    assert start(source, task, killed).wait() == 0
    assert timeless(RunFolder(killed).board()) == timeless(RunFolder(whole).board())
    assert sums(killed) == sums(whole)
    assert len(sums(whole)) == 10
    committed = [e["unit"] for e in RunFolder(killed).events("committed")]
    units = [f.parent.relative_to(killed).as_posix() for f in killed.glob("*/*/result.json")]
    assert sorted(committed) == sorted(units)  # each once, none unrecorded
    assert not list(killed.rglob(f"{store.TEMPORARY}*"))
