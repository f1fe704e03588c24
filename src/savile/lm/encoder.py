"""Where a sentence encoder lies, and what stands for its files; nothing heavy is imported.

Like a base it is a folder, relative ones from the spec's, or a Hugging Face id in the local cache;
unlike one it is never fetched.
"""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from typing import Any, Final

from savile.errors import EnvironmentProblem, Problem
from savile.lm.resolve import HUB_ID, expanded

DECISIVE: Final = frozenset({".safetensors", ".json", ".txt", ".model"})
"""Suffixes of the files that decide what an encoder says."""


def find(encoder: str, folder: Path) -> Path | None:
    """Return the folder of an encoder, None for an id that is not in the local cache.

    Args:
        encoder: a folder, or a Hugging Face id.
        folder: where relative folders start (the spec's, or the exported one).

    Raises:
        EnvironmentProblem: a name that can only be a folder, which does not exist.
    """
    local = folder / expanded(encoder)
    if local.is_dir():
        return local
    if not HUB_ID.fullmatch(encoder) or ".." in encoder:
        raise EnvironmentProblem(
            Problem(
                where="nearest_sentences.encoder",
                what=f"the sentence encoder {encoder!r} was not found",
                found=f"no folder {local}",
                fix="Put it there: relative paths start at the spec's folder, or the exported one",
            )
        )
    hub: Any = importlib.import_module("huggingface_hub")
    errors: Any = importlib.import_module("huggingface_hub.errors")
    try:
        return Path(hub.snapshot_download(encoder, local_files_only=True))
    except (errors.LocalEntryNotFoundError, errors.HFValidationError, OSError):
        return None


def identity(encoder: str, folder: Path) -> str | None:
    """Return a sha256 over the files of an encoder, None for one that is not on this machine."""
    found = find(encoder, folder)
    if found is None:
        return None
    digest = hashlib.sha256()
    for path in sorted(path for path in found.rglob("*") if path.suffix in DECISIVE):
        digest.update(path.relative_to(found).as_posix().encode() + b"\0")
        with path.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()
