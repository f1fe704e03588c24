"""What the prompts of a ladder ask of a spec and its rows: enough of them to show, and stop strings
that no right answer holds."""

from __future__ import annotations

from collections.abc import Sequence

from savile import registry
from savile.data.dataset import Dataset
from savile.errors import Problem, UsageError
from savile.spec.ladder import Candidate
from savile.spec.model import Spec
from savile.types import Example


def check(spec: Spec, dataset: Dataset) -> None:
    """Refuse prompts that no answer could follow.

    Raises:
        UsageError: a prompt shows more rows than there are; a chain of thought ends before its
            answer.
    """
    n_train = len(dataset.train)
    candidates = [c for c in spec.candidates(dataset.gives, n_train) if c.reason is None]
    problems = [
        Problem(
            where=str(spec.path),
            what=f"'{c.name}' shows {c.demonstrations} demonstrations, train has {n_train} rows "
            f"({n_train} - {c.demonstrations} = {n_train - c.demonstrations})",
            fix=f"Use k of at most {n_train}, or more train rows",
        )
        for c in candidates
        if c.demonstrations > n_train
    ]
    problems += [
        Problem(
            where=f"{spec.path}: prompt.stop",
            what=f"{stop!r} ends every answer of '{candidate.name}' at the mark of its final one",
            found=f"prompt.answer_marker {spec.prompt.answer_marker!r}",
            fix="Leave it out, or take another prompt.answer_marker",
        )
        for candidate in list(filter(_reasons, candidates))[:1]
        for stop in spec.prompt.stop
        if stop in spec.prompt.answer_marker
    ]
    if problems:
        raise UsageError(problems)


def advice(spec: Spec, closed: bool, rows: Sequence[Example]) -> list[str]:
    """Return what to know about stop strings.

    Args:
        spec: with `prompt.stop`.
        closed: whether answers are chosen from labels, which no stop string ends.
        rows: whose wanted answers are looked at.
    """
    stops = () if closed else spec.prompt.stop
    cut = [stop for stop in stops if any(stop in row.output for row in rows)]
    n_cut = sum(any(stop in row.output for stop in cut) for row in rows)
    if not cut:
        return []
    return [
        f"{n_cut} of {len(rows)} wanted answers hold {cut[0]!r}, before which prompt.stop ends "
        "what is written: no technique can give them"
    ]


def _reasons(candidate: Candidate) -> bool:
    """Return whether a technique writes steps before its answer."""
    prompts = registry.parts("prompts")
    replaced = (prompts[name].facts.get("replaces", {}) for name, _ in candidate.prompts)
    return any("rationales" in by.values() for by in replaced)
