"""Before a run: data, candidates, identity and the folder it lives in. Nothing here needs a GPU.

Without `--out` the folder is `runs/<task>`; when that holds another run, `runs/<task>-2` and so on,
so that a finished board is never overwritten and the same command finds its own folder again. With
`--out` another run is refused, or starts beside it in the same way with `--fork`.
"""

from __future__ import annotations

import difflib
import itertools
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from savile import data
from savile.data import Dataset
from savile.data.human_verdicts import HumanVerdict, load_human_verdicts
from savile.errors import Problem, UsageError
from savile.ladder import bases, encoders, identity
from savile.ladder.folder import REJECTED, RunFolder
from savile.ladder.function import RewardFunction, function_of
from savile.ladder.task import check_prompts, check_race, check_share, judges
from savile.spec import Candidate, Spec
from savile.spec.names import without_settings
from savile.spec.reward import told


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which candidates of the spec run: all of them, only some, or all but some.

    A name chooses the candidate of that name; without its settings, every candidate of that kind:
    `few_shot` stands for `few_shot(k=8)` and `few_shot(k=16)`.
    """

    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def of(self, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """Return the chosen candidates in the spec's order.

        Raises:
            UsageError: a name is on no candidate, or nothing is left.
        """
        names = [candidate.name for candidate in candidates]
        known = {*names, *map(without_settings, names)}
        wrong = [
            _unknown(flag, name, names)
            for flag, given in (("--only", self.only), ("--skip", self.skip))
            for name in given
            if name not in known
        ]
        if wrong:
            raise UsageError(wrong)
        kept = tuple(c for c in candidates if self._takes(c.name))
        if not kept:
            raise UsageError(Problem(where="--skip", what="leaves no technique to run"))
        return kept

    def _takes(self, name: str) -> bool:
        said = {name, without_settings(name)}
        return not said & set(self.skip) and (not self.only or bool(said & set(self.only)))


def _unknown(flag: str, name: str, names: Sequence[str]) -> Problem:
    near = difflib.get_close_matches(name, [*names, *map(without_settings, names)], n=1)
    return Problem(
        where=flag,
        what="no technique of this spec has that name",
        found=name,
        expected=f"one of {', '.join(names)}",
        fix=f"Did you mean {near[0]}?" if near else "",
    )


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that can start, or go on, or be read."""

    spec: Spec
    dataset: Dataset
    candidates: tuple[Candidate, ...]
    identity: Mapping[str, Any]
    folder: RunFolder
    facts: Mapping[str, Any]
    """Machine, task and base, for the manifest."""
    data_seconds: float = 0.0
    reward: RewardFunction | None = None
    """The user's own, in the place of the metric."""
    people: tuple[HumanVerdict, ...] = ()
    """Pairs that people judged, for the judge."""

    @property
    def notes(self) -> list[str]:
        """What to know about the data of the board."""
        judging, dev = len(judges(self.dataset.dev)), len(self.dataset.dev)
        notes = [*self.dataset.notes, *self.dataset.warnings]
        notes += told(self.spec.reward, self.candidates)
        if aside := len(self.dataset.rejected):
            notes.append(f"rows set aside: {aside}; {REJECTED} in the run folder names each")
        if judging < dev:
            notes.append(f"dev: {judging} of {dev} rows choose the settings (a random sample)")
        if len(pairs := self.dataset.dev_preferences) > len(judges(pairs)):
            kept = f"{len(judges(pairs))} of {len(pairs)} preferences"
            notes.append(f"dev: {kept} choose the best state of a training (a random sample)")
        return notes


def prepare(
    spec: Spec, out: Path | None = None, choice: Choice | None = None, *, fork: bool = False
) -> Prepared:
    """Load the data, resolve the candidates, find the folder.

    Args:
        spec: a checked spec.
        out: the run folder; None for `runs/<task>`, or the next beside it that is free.
        choice: which of the spec's candidates run.
        fork: take the next free folder beside `out` when that holds another run.

    Raises:
        DataError: the data cannot be used.
        UsageError: the folder holds another run; a chosen technique, the judge's opponent or the
            reward function does not exist; a prompt cannot be written, nothing can be raced on,
            or the share is less than a step.
        EnvironmentProblem: a base or the folder of a sentence encoder does not exist.
    """
    started = time.perf_counter()
    dataset, people = data.load(spec), load_human_verdicts(spec)
    data_seconds = time.perf_counter() - started
    candidates = (choice or Choice()).of(spec.candidates(dataset.gives, len(dataset.train)))
    spec.opponent(candidates)
    check_prompts(spec, dataset, candidates)
    check_race(spec, dataset)
    check_share(spec, candidates)
    reward = function_of(spec)
    what: dict[str, Any] = {
        "spec": spec.decisive(),
        "techniques": [candidate.name for candidate in candidates],
        "data": {**dataset.hashes, **people.hashes},
        "base": [bases.identity(base, spec.folder) for base in spec.every_base],
        "reward": None if reward is None else reward.sha256,
        "code": identity.code_version(),
        "versions": identity.versions(identity.QUANTIZES if spec.compute.quantization else ()),
    }
    if named := encoders.identities(candidates, spec.folder):
        what["encoders"] = named
    first = Path("runs") / spec.task if out is None else out
    folder = free_folder(first, what) if fork or out is None else RunFolder(first)
    if (difference := folder.difference(what)) is not None:
        raise identity.refuse(folder.path, difference)
    return Prepared(
        spec=spec,
        dataset=dataset,
        candidates=candidates,
        identity=what,
        folder=folder,
        facts={
            "machine": machine(),
            "task": spec.task,
            "bases": [bases.as_json(base) for base in spec.every_base],
            "base_folder": str(spec.folder.resolve()),
        },
        data_seconds=data_seconds,
        reward=reward,
        people=people.pairs,
    )


def free_folder(first: Path, what: Mapping[str, Any]) -> RunFolder:
    """Return the first of `first`, `first`-2, ... that is free or holds this very run."""
    for number in itertools.count(1):
        name = first.name if number == 1 else f"{first.name}-{number}"
        folder = RunFolder(first.with_name(name))
        if folder.manifest() is None or folder.difference(what) is None:
            return folder
    raise AssertionError("itertools.count does not end")


def machine() -> dict[str, Any]:
    """Return what the timings were measured on."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
    }
