"""Committed folders: a manifest with size and sha256 of each file, and one rename for it all.

Every later change of a bit, a missing or a strange file is found when the folder is read.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from savile.store.files import (
    TEMPORARY,
    corrupt,
    disk,
    dump_json,
    file_sha256,
    read_json,
    sha256,
    sync_folder,
    write_synced,
)

MANIFEST: Final = "MANIFEST.json"
FORMAT: Final = 1


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
        with disk(path, sum(map(len, files.values())) + len(sealed)):
            temporary.mkdir(parents=True)
            for name, data in files.items():
                write_synced(temporary / name, data)
            write_synced(temporary / MANIFEST, sealed)
            sync_folder(temporary)
            temporary.rename(path)
            sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextmanager
def new_dir(path: Path) -> Iterator[Path]:
    """Yield a temporary folder for a library to write into; it becomes `path` in one rename.

    Raises:
        EnvironmentProblem: the disk refused, or `path` holds something; nothing is left behind.
    """
    temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        with disk(path, 0):
            temporary.mkdir(parents=True)
            yield temporary
            for item in [*temporary.rglob("*"), temporary]:
                sync_folder(item)
            temporary.rename(path)
            sync_folder(path.parent)
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
        corrupt(path / strange[0], "is not in the manifest", found="a file", expected="none")
    for name, entry in manifest["files"].items():
        file = path / name
        if not file.is_file() or file.is_symlink():
            corrupt(file, "is missing", found="no file", expected=f"sha256 {entry['sha256']}")
        found = file_sha256(file)
        if found != entry["sha256"] or file.stat().st_size != entry["bytes"]:
            corrupt(
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


def _read_manifest(file: Path) -> dict[str, Any]:
    if not file.is_file():
        corrupt(file, "is missing", found="no file", expected="a manifest")
    raw = file.read_bytes()
    manifest = read_json(file)
    claimed = manifest.pop("sha256", None) if isinstance(manifest, dict) else None
    body = sha256(dump_json(manifest))
    if claimed != body or dump_json({**manifest, "sha256": claimed}) != raw:
        corrupt(file, "has changed", found=f"sha256 {body}", expected=f"sha256 {claimed}")
    if manifest["format"] != FORMAT:
        corrupt(
            file, "has a format this version cannot read", found=manifest["format"], expected=FORMAT
        )
    return dict(manifest)
