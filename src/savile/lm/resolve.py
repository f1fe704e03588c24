"""Where a base lies: an embedded one, a local folder, or a Hugging Face id in the cache or the hub.

Imports neither torch nor transformers, so that `savile check` can look at a base in a blink; the
hub's library is loaded only for a name that is no folder here.
"""

from __future__ import annotations

import difflib
import importlib
import re
from importlib import resources
from pathlib import Path
from typing import Any, Final

from savile.errors import EnvironmentProblem, Problem

EMBEDDED: Final = {"embedded": "small", "embedded-large": "large"}
PATTERNS: Final = ("*.safetensors", "*.json", "*.jinja", "tokenizer*")
"""The files of a hub model that are fetched: never code, never pickles."""
HUB_ID: Final = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
EXPECTED: Final = "embedded, embedded-large, a folder, or a Hugging Face id"
TYPO: Final = 0.8
"""Similarity to the name of an embedded model from which a name is taken for a slip of it."""


def resolve(base: str, folder: Path) -> Path:
    """Return the model folder of `base`, fetched from the hub when it is only there.

    Args:
        base: `embedded`, `embedded-large`, a folder, or a Hugging Face id.
        folder: where relative folders start (the spec's).

    Raises:
        EnvironmentProblem: no such folder, and no such model in the cache or on the hub.
    """
    return _local(base, folder) or _hub(base, folder, network=True)


def at_hand(base: str, folder: Path) -> Path | None:
    """Return the model folder of `base` without the network; None for an id not in the cache.

    Raises:
        EnvironmentProblem: a name that can only be a folder, which does not exist.
    """
    found = _local(base, folder)
    if found is None:
        try:
            found = _hub(base, folder, network=False)
        except EnvironmentProblem:
            return None
    return found if found.parent.name != "snapshots" or (found / "config.json").exists() else None


def _local(base: str, folder: Path) -> Path | None:
    """Return the folder of a base on this machine, None for what may be a Hugging Face id."""
    if base in EMBEDDED:
        return Path(str(resources.files("savile") / "embedded" / EMBEDDED[base]))
    local = folder / expanded(base)
    if local.is_dir():
        return local
    if local.exists():
        found = f"{local} is a file"
        raise _missing(base, found, "Name the folder that holds config.json and the weights.")
    slip = difflib.get_close_matches(base, EMBEDDED, n=1, cutoff=TYPO)
    if slip or not HUB_ID.fullmatch(base) or ".." in base or "--" in base:
        near = slip or _near(local)
        fix = f"Did you mean {', '.join(near)}?" if near else "Check the path."
        raise _missing(base, f"no folder {local}", fix)
    return None


def _hub(base: str, folder: Path, *, network: bool) -> Path:
    hub: Any = importlib.import_module("huggingface_hub")
    errors: Any = importlib.import_module("huggingface_hub.errors")
    constants: Any = importlib.import_module("huggingface_hub.constants")
    try:
        return Path(
            hub.snapshot_download(base, allow_patterns=list(PATTERNS), local_files_only=not network)
        )
    except errors.GatedRepoError as error:
        reason, fix = f"the hub asks for access: {_first(error)}", "Log in with `hf auth login`."
    except errors.RepositoryNotFoundError:
        reason, fix = "the hub knows no such model, or it is private", "Check the name."
    except (errors.HfHubHTTPError, errors.HFValidationError) as error:
        reason, fix = f"the hub says: {_first(error)}", "Check the name."
    except (errors.LocalEntryNotFoundError, OSError):
        if constants.HF_HUB_OFFLINE:
            reason = "HF_HUB_OFFLINE is set, so the hub was not asked"
            fix = f"Unset HF_HUB_OFFLINE, or fetch the model before: hf download {base}"
        else:
            reason, fix = "the hub cannot be reached", "Check the name or the connection."
    local = folder / expanded(base)
    near = _near(local)
    found = f"no folder {local}; not in the cache {constants.HF_HUB_CACHE}; {reason}"
    raise _missing(base, found, f"Did you mean {', '.join(near)}? {fix}" if near else fix)


def expanded(base: str) -> Path:
    """Replace a leading ~ by the home folder, where there is one."""
    try:
        return Path(base).expanduser()
    except RuntimeError:  # no such user
        return Path(base)


def _near(local: Path) -> list[str]:
    """Return the embedded models and the folders beside `local` that have a similar name."""
    try:
        beside = [path.name for path in local.parent.iterdir() if path.is_dir()]
    except OSError:
        beside = []
    return difflib.get_close_matches(local.name, [*beside, *EMBEDDED], n=3)


def _missing(base: str, found: str, fix: str) -> EnvironmentProblem:
    what = f"the base {base!r} was not found"
    return EnvironmentProblem(
        Problem(what=what, where="base", found=found, expected=EXPECTED, fix=fix)
    )


def _first(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:300]
