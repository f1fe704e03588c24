"""Answers that were paid for, by the content of their requests: asking again is free.

One JSON file an answer, `<first two letters>/<sha256 of endpoint and request>.json`, written in one
step; a file that is not what was written counts as absent and is replaced. Requests and keys are
not stored. An answer is kept for every run beside this one, so that a changed spec, or a newer
version, pays only for what it asks anew.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import final

from savile import store
from savile.errors import IntegrityError
from savile.lm.endpoint.replies import Reply, reply_of


@final
class Cache:
    """A folder of answers; may be used from many threads and processes."""

    def __init__(self, folder: Path | None) -> None:
        """Keep answers in `folder`; None keeps nothing."""
        self.folder = folder

    def get(self, key: str) -> Reply | None:
        """Return the answer to a request, None when it has to be asked."""
        if self.folder is None:
            return None
        file = self._file(self.folder, key)
        try:
            return reply_of(store.read_json(file))
        except (OSError, IntegrityError):
            return None

    def put(self, key: str, reply: Reply) -> None:
        """Keep an answer."""
        if self.folder is not None:
            store.write_json(self._file(self.folder, key), asdict(reply))

    @staticmethod
    def _file(folder: Path, key: str) -> Path:
        return folder / key[:2] / f"{key}.json"
