"""Durable bytes: strict JSON, atomic files, and errors of the disk as sentences.

A file appears complete or not at all: it is written under a temporary name on the same volume,
flushed to disk, then renamed, and the folder above is flushed. A failed fsync is never retried: the
page cache may already have dropped what it could not write.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from savile.errors import DiskProblem, IntegrityError, Problem

TEMPORARY: Final = ".tmp-"
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_READ_BYTES: Final = 1 << 20


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


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees the old content or the new one, never a part.

    Raises:
        DiskProblem: no space, read-only or failing disk; the old content stays.
    """
    temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        with disk(path, len(data)):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_synced(temporary, data)
            temporary.replace(path)
            sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON to `path` in one step."""
    write_atomic(path, dump_json(value))


def now() -> str:
    """Return the time in UTC to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def corrupt(file: Path, what: str, *, found: object, expected: object) -> NoReturn:
    """Raise the error of a file that is not what was written."""
    raise IntegrityError(
        Problem(
            where=str(file),
            what=what,
            found=str(found),
            expected=str(expected),
            fix="Remove this folder; `savile run` makes it again",
        )
    )


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file and flush it to the disk."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Flush a folder, so that a rename in it is durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def disk(path: Path, need_bytes: int, passing: type[OSError] | tuple[()] = ()) -> Iterator[None]:
    """Turn an error of the file system into a sentence with path, need and free bytes."""
    try:
        yield
    except passing:
        raise
    except OSError as error:
        raise disk_problem(error, path, need_bytes) from error


def is_full(error: OSError) -> bool:
    """Return whether an error says that a volume, a quota or a file can take no more."""
    return error.errno in FULL


def disk_problem(error: OSError, path: Path, need_bytes: int = 0) -> DiskProblem:
    """Return the sentence of an error of the file system at `path`."""
    free = free_bytes(path)
    full = is_full(error)
    return DiskProblem(
        Problem(
            where=str(path),
            what="no space to write" if full else f"cannot write: {error.strerror or error}",
            found=f"{free:,} bytes free" if full and free is not None else "",
            expected=f"{need_bytes:,} bytes" if full and need_bytes else "",
            fix="Free some space and run the same command again: what is committed is kept"
            if full
            else "Check the folder and its permissions, or give another one with --out",
        )
    )


def free_bytes(path: Path) -> int | None:
    """Return the free bytes of the volume that holds `path`, None when nothing of it exists."""
    for folder in (path, *path.parents):
        if folder.is_dir():
            return shutil.disk_usage(folder).free
    return None
