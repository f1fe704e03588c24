"""A reward that is the user's own Python function, named in the spec and read here, never run.

    reward: rewards.py:worth        def worth(input: str, answer: str, reference: str) -> float

The file is parsed, so that `savile check` finds what is wrong with it without running it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, NamedTuple

from pydantic import AfterValidator

from savile.spec.faults import Fault, nearest, one_of
from savile.spec.ladder import Candidate

FORM: Final = re.compile(r"(?P<file>.+\.py):(?P<name>[^\W\d]\w*)")
PARAMETERS: Final = ("input", "answer", "reference")
LOC: Final = ("reward",)


def _formed(text: str) -> str:
    if FORM.fullmatch(text) is None:
        raise ValueError(f"'reward' should be FILE.py:FUNCTION; found {text!r}")
    return text


RewardText = Annotated[str, AfterValidator(_formed)]


class Place(NamedTuple):
    """Where a reward function stands."""

    path: Path
    name: str


def place_of(text: str, folder: Path) -> Place:
    """Return the file and the function of a `reward`; its path starts at the spec's folder."""
    file, _, name = text.rpartition(":")
    return Place(folder / file, name)


def faults(text: str | None, folder: Path) -> list[Fault]:
    """Return what is wrong with the file or the function that a spec names."""
    if text is None:
        return []
    path, name = place_of(text, folder)
    try:
        tree = ast.parse(path.read_bytes())
    except OSError as error:
        what = f"the file of 'reward' cannot be read: {error.strerror}"
        return [Fault(LOC, what, found=str(path), fix="Its path starts at the spec's folder")]
    except (SyntaxError, ValueError) as error:
        line = error.lineno if isinstance(error, SyntaxError) else None
        place = path.name if line is None else f"{path.name}:{line}"
        return [Fault(LOC, f"{place} is not valid Python: {error.args[0]}")]
    known = {node.name: node.args for node in tree.body if isinstance(node, ast.FunctionDef)}
    if name not in known:
        hint = nearest(name, known)
        what = f"{path.name} defines no function '{name}' at its top level{hint}"
        return [Fault(LOC, what, expected="" if hint else one_of(known))]
    if not _takes_three(known[name]):
        expected = f"def {name}({', '.join(PARAMETERS)})"
        return [Fault(LOC, f"'{name}' does not take three arguments", expected=expected)]
    return []


def _takes_three(given: ast.arguments) -> bool:
    most = len(given.posonlyargs) + len(given.args)
    least = most - len(given.defaults)
    keywords = any(default is None for default in given.kw_defaults)
    wanted = len(PARAMETERS)
    return least <= wanted and (wanted <= most or given.vararg is not None) and not keywords


def told(text: str | None, candidates: Sequence[Candidate]) -> list[str]:
    """Return which techniques a reward function is for, as a line for people."""
    if text is None:
        return []
    names = [c.name for c in candidates if c.reason is None and "reward" in c.needs]
    users = f"the reward of {', '.join(names)}" if names else "no technique learns from it"
    return [f"reward: {text}: {users}"]
