"""What a run is: spec, data, base model, code and library versions, and what differs between two.

A folder is resumed only by the same run: a score measured half on one data set and half on another
would be no score at all.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from savile.errors import Problem, UsageError

LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "scipy", "scikit-learn")
"""Libraries whose version may change a number."""
QUANTIZES = ("torchao",)
"""Libraries whose version may change a number of a base that is quantized."""
PACKAGE = Path(__file__).parents[1]
ONLY_SHOWN = frozenset({"report", "export", "handover", "cli", "api.py", "__main__.py"})
"""What cannot change a number."""
ANOTHER = {
    "code": "was begun by another version of savile",
    "base": "was begun with other weights of the base",
    "reward": "was begun with another content of the reward's file",
}
"""What to say instead of two hashes."""
FIX = "give a new folder with --out, or --fork for one beside it"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The first key in which two identities differ."""

    key: str
    before: Any
    now: Any


def versions(also: Sequence[str] = ()) -> dict[str, str]:
    """Return the versions that may change a number, those of `also` among them, without importing
    the libraries."""
    found = {"python": platform.python_version()}
    for name in (*LIBRARIES, *also):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def code_version(package: Path = PACKAGE) -> str:
    """Return a hash over the names and bytes of the source files that can change a number."""
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        inside = file.relative_to(package)
        if inside.parts[0] in ONLY_SHOWN:
            continue
        digest.update(inside.as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def first_difference(before: Any, now: Any, key: str = "") -> Difference | None:
    """Return the first leaf, in the order of the keys, in which two JSON values differ."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in sorted({*before, *now}, key=str):
            inner = f"{key}.{name}" if key else str(name)
            found = first_difference(before.get(name), now.get(name), inner)
            if found is not None:
                return found
        return None
    return None if before == now else Difference(key=key, before=before, now=now)


def refuse(folder: Path, difference: Difference) -> UsageError:
    """Return the error of a folder that holds another run, naming the first differing key."""
    if difference.key in ANOTHER:
        what = f"holds a run that {ANOTHER[difference.key]} (`{difference.key}` differs)"
        return UsageError(Problem(where=str(folder), what=what, fix=f"{FIX[0].upper()}{FIX[1:]}"))
    return UsageError(
        Problem(
            where=str(folder),
            what=f"holds another run: `{difference.key}` differs",
            found=_clip(difference.now),
            expected=_clip(difference.before),
            fix=f"Put the value back to go on with that run, or {FIX}",
        )
    )


def _clip(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
