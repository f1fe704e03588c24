"""The run lock: `flock` on a file of the folder, so the kernel frees it when its holder dies."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from savile.errors import LockedError, Problem
from savile.store.files import disk, dump_json, now


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the run folder: one live process at a time. The kernel frees it when the process dies.

    Raises:
        LockedError: naming pid, host and start time of the holder.
    """
    path = folder / ".lock"
    with disk(path, 0):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            with disk(path, 0, passing=BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError(_holder(path, handle)) from error
        me = {"pid": os.getpid(), "host": socket.gethostname(), "started": now()}
        with disk(path, 0):
            os.ftruncate(handle, 0)
            os.pwrite(handle, dump_json(me, indent=None), 0)
        yield
    finally:
        os.close(handle)


def _holder(path: Path, handle: int) -> Problem:
    for _ in range(20):  # the winner of a race writes its name just after it has the lock
        if raw := os.pread(handle, 4096, 0):
            break
        time.sleep(0.01)
    try:
        held = json.loads(raw)
        who = f"process {held['pid']} on {held['host']}, started {held['started']}"
    except (ValueError, KeyError, TypeError):
        who = "another process"
    return Problem(
        where=str(path.parent),
        what="another run is at work in this folder",
        found=who,
        fix="Wait for it, stop it, or give another folder with --out",
    )
