"""The sentence encoders that prompts of a ladder name: part of what a run is, though no base.

An encoder that is not on this machine fails the rows that need it, and no others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from savile import registry
from savile.errors import IntegrityError, Problem
from savile.lm import encoder
from savile.spec import Candidate

ABSENT: Final = "not on this machine"


def identities(candidates: Sequence[Candidate], folder: Path) -> dict[str, str]:
    """Return what stands for the files of every encoder that is named; empty without one.

    Args:
        candidates: of a run.
        folder: where relative folders start (the spec's).

    Raises:
        EnvironmentProblem: a folder is named that does not exist.
    """
    prompts = registry.parts("prompts")
    names = [
        str(settings[setting])
        for candidate in candidates
        if candidate.reason is None
        for part, settings in candidate.with_defaults
        for setting in prompts[part].facts.get("encoders", ())
    ]
    return {name: encoder.identity(name, folder) or ABSENT for name in dict.fromkeys(names)}


def notes(candidates: Sequence[Candidate], folder: Path) -> list[str]:
    """Return what `savile check` says of encoders: those that are not here."""
    found = identities(candidates, folder)
    return [
        f"sentence encoder {name}: {ABSENT}; what needs it will fail (hf download {name})"
        for name, sha256 in found.items()
        if sha256 == ABSENT
    ]


def refuse_others(manifest: Mapping[str, Any], run: Path) -> None:
    """Raise IntegrityError where an encoder is not the one that a run was measured with."""
    folder = Path(manifest["base_folder"])
    for name, before in manifest["identity"].get("encoders", {}).items():
        if encoder.identity(name, folder) not in (before, None):
            what = f"the sentence encoder {name!r} is not the one that was measured with"
            fix = "Put its files back, or measure again in a new folder"
            raise IntegrityError(Problem(where=str(run), what=what, fix=fix))
