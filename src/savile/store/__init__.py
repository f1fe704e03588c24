"""The only package that writes durably: nothing half-written is seen, every changed bit is found.

Only bytes and strict JSON are written: no pickle, no NaN.
"""

from savile.store.events import append_event, mend_events, read_events
from savile.store.files import (
    TEMPORARY,
    disk_problem,
    dump_json,
    file_sha256,
    free_bytes,
    is_full,
    now,
    read_json,
    sha256,
    write_atomic,
    write_json,
)
from savile.store.folders import MANIFEST, commit_dir, new_dir, read_dir, sweep, verify_dir
from savile.store.lock import run_lock

__all__ = [
    "MANIFEST",
    "TEMPORARY",
    "append_event",
    "commit_dir",
    "disk_problem",
    "dump_json",
    "file_sha256",
    "free_bytes",
    "is_full",
    "mend_events",
    "new_dir",
    "now",
    "read_dir",
    "read_events",
    "read_json",
    "run_lock",
    "sha256",
    "sweep",
    "verify_dir",
    "write_atomic",
    "write_json",
]
