"""The only module that writes durably: atomic files, committed folders, event log, run lock.

A file or folder appears complete or not at all: it is written under a temporary name on the same
volume, flushed to disk, then renamed, and the folder above is flushed. A committed folder carries
`MANIFEST.json` with size and sha256 of each file, so that every later change of a bit is found when
it is read. Only bytes and strict JSON are written (no pickle, no NaN). A failed fsync is never
retried: the page cache may already have dropped what it could not write.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from savile.errors import EnvironmentProblem, IntegrityError, LockedError, Problem

MANIFEST: Final = "MANIFEST.json"
FORMAT: Final = 1
TEMPORARY: Final = ".tmp-"
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SEALED_LINE: Final = re.compile(rb'^(\{.*), "crc32": "([0-9a-f]{8})"\}', re.DOTALL)
_READ_BYTES: Final = 1 << 20


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────


def dump_json(value: Any, *, indent: int | None = 1) -> bytes:
    """Return strict JSON in UTF-8: sorted keys, no NaN or infinity (ValueError)."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, sort_keys=True, indent=indent)
    return text.encode("utf-8") + b"\n"


def read_json(path: Path) -> Any:
    """Return the parsed content of a file written by `write_json`.

    Raises:
        IntegrityError: when the file is not strict JSON.
    """
    try:
        return json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(
            Problem(where=str(path), what="is not the JSON that was written", found=str(error))
        ) from error


def sha256(data: bytes) -> str:
    """Return the sha256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


# ── single files ─────────────────────────────────────────────────────────────────────────────────


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees the old content or the new one, never a part.

    Raises:
        EnvironmentProblem: no space, read-only or failing disk; the old content stays.
    """
    temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        with _disk(path, len(data)):
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_synced(temporary, data)
            temporary.replace(path)
            _sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON to `path` in one step."""
    write_atomic(path, dump_json(value))


# ── committed folders ────────────────────────────────────────────────────────────────────────────


def commit_dir(
    path: Path, files: Mapping[str, bytes], facts: Mapping[str, Any] | None = None
) -> None:
    """Commit a folder with `files` (name -> content) and its manifest in one rename.

    Args:
        path: the folder; it must not exist yet.
        files: plain file names, no separators.
        facts: JSON-able facts kept in the manifest.

    Raises:
        EnvironmentProblem: the disk refused; nothing is left behind.
    """
    entries = {name: {"bytes": len(d), "sha256": sha256(d)} for name, d in sorted(files.items())}
    manifest = {"format": FORMAT, "files": entries, "facts": dict(facts or {})}
    sealed = dump_json({**manifest, "sha256": sha256(dump_json(manifest))})
    temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        with _disk(path, sum(map(len, files.values())) + len(sealed)):
            temporary.mkdir(parents=True)
            for name, data in files.items():
                _write_synced(temporary / name, data)
            _write_synced(temporary / MANIFEST, sealed)
            _sync_folder(temporary)
            temporary.rename(path)
            _sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def verify_dir(path: Path) -> dict[str, Any]:
    """Return the manifest of a committed folder after checking every byte against it.

    Raises:
        IntegrityError: a file is missing, unknown, or differs (with both sha256).
    """
    manifest = _read_manifest(path / MANIFEST)
    present = {item.name for item in path.iterdir()} - {MANIFEST}
    if strange := sorted(present - set(manifest["files"])):
        _corrupt(path / strange[0], "is not in the manifest", found="a file", expected="none")
    for name, entry in manifest["files"].items():
        file = path / name
        if not file.is_file() or file.is_symlink():
            _corrupt(file, "is missing", found="no file", expected=f"sha256 {entry['sha256']}")
        found = file_sha256(file)
        if found != entry["sha256"] or file.stat().st_size != entry["bytes"]:
            _corrupt(
                file, "has changed", found=f"sha256 {found}", expected=f"sha256 {entry['sha256']}"
            )
    return manifest


def read_dir(path: Path) -> dict[str, bytes]:
    """Return every file of a committed folder, verified against its manifest."""
    return {name: (path / name).read_bytes() for name in verify_dir(path)["files"]}


def sweep(folder: Path) -> int:
    """Remove what a killed process left half-written; return how many. Needs the run lock."""
    left = list(folder.rglob(f"{TEMPORARY}*")) if folder.is_dir() else []
    for item in left:
        if item.is_dir():
            shutil.rmtree(item, ignore_errors=True)
        else:
            item.unlink(missing_ok=True)
    return len(left)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _read_manifest(file: Path) -> dict[str, Any]:
    if not file.is_file():
        _corrupt(file, "is missing", found="no file", expected="a manifest")
    raw = file.read_bytes()
    manifest = read_json(file)
    claimed = manifest.pop("sha256", None) if isinstance(manifest, dict) else None
    body = sha256(dump_json(manifest))
    if claimed != body or dump_json({**manifest, "sha256": claimed}) != raw:
        _corrupt(file, "has changed", found=f"sha256 {body}", expected=f"sha256 {claimed}")
    if manifest["format"] != FORMAT:
        _corrupt(
            file, "has a format this version cannot read", found=manifest["format"], expected=FORMAT
        )
    return dict(manifest)


def _corrupt(file: Path, what: str, *, found: object, expected: object) -> NoReturn:
    raise IntegrityError(
        Problem(
            where=str(file),
            what=what,
            found=str(found),
            expected=str(expected),
            fix="Remove this folder; `savile run` makes it again",
        )
    )


# ── the event log ────────────────────────────────────────────────────────────────────────────────


def append_event(path: Path, event: Mapping[str, Any]) -> None:
    """Append one event as one JSON line that carries its own crc32, in one write, and flush it."""
    body = dump_json(event, indent=None)[:-2]
    line = body + b', "crc32": "%08x"}\n' % zlib.crc32(body)
    with _disk(path, len(line)):
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if os.write(handle, line) != len(line):
                raise OSError(errno.ENOSPC, "the line was cut")
            os.fsync(handle)
        finally:
            os.close(handle)


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return every event; a last line cut by a kill is left out, anything else wrong is reported.

    Raises:
        IntegrityError: naming file and line.
    """
    raw = path.read_bytes() if path.exists() else b""
    whole, _, tail = raw.rpartition(b"\n")
    if (sealed := _SEALED_LINE.match(tail)) and sealed.end() < len(tail):
        _corrupt(path, "has a changed end of line", found=repr(tail[-12:]), expected="a line end")
    lines = whole.split(b"\n") if whole else []
    return [_checked_line(path, number, line) for number, line in enumerate(lines, 1)]


def mend_events(path: Path) -> None:
    """Cut off a torn last line so that the next event starts on its own. Needs the run lock."""
    read_events(path)
    if not path.exists():
        return
    raw = path.read_bytes()
    if (whole := raw.rfind(b"\n") + 1) < len(raw):
        with _disk(path, 0), path.open("r+b") as file:
            file.truncate(whole)
            os.fsync(file.fileno())


def _checked_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    where = Path(f"{path}:{number}")
    matched = _SEALED_LINE.fullmatch(line)
    if matched is None:
        _corrupt(where, "is not an event line", found=repr(line[:40]), expected="JSON with a crc32")
    found = f"{zlib.crc32(matched[1]):08x}"
    if found != (expected := matched[2].decode()):
        _corrupt(where, "has changed", found=f"crc32 {found}", expected=f"crc32 {expected}")
    event: dict[str, Any] = json.loads(matched[1] + b"}")
    return event


# ── the run lock ─────────────────────────────────────────────────────────────────────────────────


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the run folder: one live process at a time. The kernel frees it when the process dies.

    Raises:
        LockedError: naming pid, host and start time of the holder.
    """
    path = folder / ".lock"
    with _disk(path, 0):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            with _disk(path, 0, passing=BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError(_holder(path, handle)) from error
        me = {"pid": os.getpid(), "host": socket.gethostname(), "started": now()}
        with _disk(path, 0):
            os.ftruncate(handle, 0)
            os.pwrite(handle, dump_json(me, indent=None), 0)
        yield
    finally:
        os.close(handle)


def now() -> str:
    """Return the time in UTC to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


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


# ── the disk ─────────────────────────────────────────────────────────────────────────────────────


def _write_synced(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _disk(path: Path, need_bytes: int, passing: type[OSError] | tuple[()] = ()) -> Iterator[None]:
    """Turn an error of the file system into a sentence with path, need and free bytes."""
    try:
        yield
    except passing:
        raise
    except OSError as error:
        free = _free_bytes(path)
        full = error.errno in FULL
        raise EnvironmentProblem(
            Problem(
                where=str(path),
                what="no space to write" if full else f"cannot write: {error.strerror or error}",
                found=f"{free:,} bytes free" if full and free is not None else "",
                expected=f"{need_bytes:,} bytes" if full and need_bytes else "",
                fix="Free some space and run the same command again: what is committed is kept"
                if full
                else "Check the folder and its permissions, or give another one with --out",
            )
        ) from error


def _free_bytes(path: Path) -> int | None:
    for folder in path.parents:
        if folder.is_dir():
            return shutil.disk_usage(folder).free
    return None
