"""Durable writes: nothing half-written, every changed bit found, one process at a time."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from savile import store
from savile.errors import EnvironmentProblem, IntegrityError, LockedError

FILES = {"result.json": b'{"score": 0.5}\n', "delta.safetensors": bytes(range(256)) * 20}


def committed(folder: Path) -> Path:
    store.commit_dir(folder / "trial", FILES, {"technique": "lora"})
    return folder / "trial"


def test_commit_then_read_returns_the_same_bytes(tmp_path: Path) -> None:
    trial = committed(tmp_path)
    assert store.read_dir(trial) == FILES
    assert store.verify_dir(trial)["facts"] == {"technique": "lora"}
    assert [p.name for p in tmp_path.iterdir()] == ["trial"]


def test_a_committed_folder_is_never_overwritten(tmp_path: Path) -> None:
    trial = committed(tmp_path)
    with pytest.raises(EnvironmentProblem):
        store.commit_dir(trial, {"other": b""})
    assert store.read_dir(trial) == FILES


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    place = tmp_path / "exports" / "model"
    with store.new_dir(place) as folder:
        (folder / "weights").mkdir()
        (folder / "weights" / "a").write_bytes(b"1")
        assert not place.exists()
    assert (place / "weights" / "a").read_bytes() == b"1"
    with pytest.raises(EnvironmentProblem), store.new_dir(place) as folder:
        (folder / "b").write_bytes(b"2")
    with pytest.raises(KeyError), store.new_dir(tmp_path / "other") as folder:
        raise KeyError
    assert [p.name for p in (tmp_path / "exports").iterdir()] == ["model"]
    assert [p.name for p in tmp_path.iterdir()] == ["exports"]
    assert [p.name for p in place.iterdir()] == ["weights"]


def test_500_bit_flips_in_any_file_are_found(tmp_path: Path) -> None:
    trial = committed(tmp_path)
    rng = random.Random(0)
    names = [*FILES, store.MANIFEST]
    for _ in range(500):
        file = trial / rng.choice(names)
        whole = file.read_bytes()
        changed = bytearray(whole)
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        file.write_bytes(changed)
        with pytest.raises(IntegrityError) as caught:
            store.verify_dir(trial)
        assert str(trial) in str(caught.value)
        file.write_bytes(whole)
    store.verify_dir(trial)


@pytest.mark.parametrize("name", [*FILES, store.MANIFEST])
def test_every_truncation_is_found(tmp_path: Path, name: str) -> None:
    trial = committed(tmp_path)
    whole = (trial / name).read_bytes()
    for keep in {0, 1, len(whole) // 2, len(whole) - 1}:
        (trial / name).write_bytes(whole[:keep])
        with pytest.raises(IntegrityError):
            store.verify_dir(trial)


def test_missing_and_strange_files_are_named_with_both_sums(tmp_path: Path) -> None:
    trial = committed(tmp_path)
    (trial / "extra").write_bytes(b"")
    with pytest.raises(IntegrityError, match="extra"):
        store.verify_dir(trial)
    (trial / "extra").unlink()
    (trial / "result.json").write_bytes(b"{}")
    with pytest.raises(IntegrityError) as caught:
        store.verify_dir(trial)
    assert store.sha256(b"{}") in str(caught.value)
    assert store.sha256(FILES["result.json"]) in str(caught.value)


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write_json(tmp_path / "board.json", {"score": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_old_file_and_says_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "board.json"
    store.write_atomic(path, b"old")

    def full(handle: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(EnvironmentProblem, match=r"board.json: no space.*bytes free.*12 bytes"):
        store.write_atomic(path, b"x" * 12)
    with pytest.raises(EnvironmentProblem, match="no space"):
        store.commit_dir(tmp_path / "trial", FILES)
    with pytest.raises(EnvironmentProblem, match="no space"):
        store.append_event(tmp_path / "events.jsonl", {"event": "x"})
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert {p.name for p in tmp_path.iterdir()} == {"board.json", "events.jsonl"}


def test_a_failed_fsync_is_not_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def broken(handle: int) -> None:
        calls.append(handle)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(EnvironmentProblem, match="Input/output error"):
        store.write_atomic(tmp_path / "file", b"data")
    assert len(calls) == 1
    assert not (tmp_path / "file").exists()


def test_events_round_trip_and_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    events = [{"event": "start", "n": n, "text": 'a "quoted" ü'} for n in range(5)]
    for event in events:
        store.append_event(log, event)
    assert store.read_events(log) == events
    whole = log.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(last + 1, len(whole) - 1, 7):
        log.write_bytes(whole[:cut])
        assert store.read_events(log) == events[:4]
    store.mend_events(log)
    store.append_event(log, {"event": "again"})
    assert store.read_events(log) == [*events[:4], {"event": "again"}]


def test_500_bit_flips_in_the_event_log_are_found_or_change_nothing(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    for n in range(6):
        store.append_event(log, {"event": "unit", "n": n})
    whole = log.read_bytes()
    rng = random.Random(1)
    for _ in range(500):
        changed = bytearray(whole)
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        log.write_bytes(changed)
        with pytest.raises(IntegrityError):
            store.read_events(log)


def test_sweep_removes_what_a_kill_left(tmp_path: Path) -> None:
    committed(tmp_path / "trials")
    (tmp_path / "trials" / ".tmp-dead").mkdir()
    (tmp_path / "trials" / ".tmp-dead" / "half").write_bytes(b"x")
    (tmp_path / ".tmp-file").write_bytes(b"x")
    assert store.sweep(tmp_path) == 2
    assert store.read_dir(tmp_path / "trials" / "trial") == FILES


def test_a_held_folder_is_refused_naming_the_holder(tmp_path: Path) -> None:
    with store.run_lock(tmp_path), pytest.raises(LockedError, match=rf"process {os.getpid()} on"):
        store.run_lock(tmp_path).__enter__()
    with store.run_lock(tmp_path):
        pass


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from savile import store\n"
        "with store.run_lock(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(LockedError, match=str(process.pid)):
        store.run_lock(tmp_path).__enter__()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with store.run_lock(tmp_path):
        pass


def _race(folder: str, barrier: object, results: object) -> None:
    for round_number in range(25):
        barrier.wait()  # type: ignore[attr-defined]
        try:
            with store.run_lock(Path(folder, str(round_number))):
                won = 1
                time.sleep(0.02)
                barrier.wait()  # type: ignore[attr-defined]
        except LockedError:
            won = 0
            barrier.wait()  # type: ignore[attr-defined]
        results.put((round_number, won))  # type: ignore[attr-defined]


def test_every_start_race_has_exactly_one_winner(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(3), context.SimpleQueue()
    racers = [
        context.Process(target=_race, args=(str(tmp_path), barrier, results)) for _ in range(3)
    ]
    for racer in racers:
        racer.start()
    outcomes = [results.get() for _ in range(75)]
    for racer in racers:
        racer.join()
    winners = {n: sum(won for m, won in outcomes if m == n) for n in range(25)}
    assert winners == dict.fromkeys(range(25), 1)
