"""What of an endpoint's request a technique decides: `base.request` may not say otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from savile import registry
from savile.spec.endpoint import EndpointSection, overruled
from savile.spec.faults import Fault, Loc
from savile.spec.ladder import Candidate
from savile.spec.model import Spec


def faults(spec: Spec) -> list[Fault]:
    """Return the fields that a section's `request` sets otherwise than what asks it does."""
    found = [
        *_proposer(spec),
        *(
            fault
            for candidate, base, loc in _asked(spec)
            for part, settings in candidate.with_defaults
            for fault in _of(part, settings, candidate.name, base, loc)
        ),
    ]
    return list({fault.loc: fault for fault in reversed(found)}.values())


def _asked(spec: Spec) -> Iterator[tuple[Candidate, EndpointSection, Loc]]:
    """Yield every prompt technique on an endpoint, and where the spec describes that."""
    for one in [] if spec.ladder in ("auto", []) else spec.candidates(frozenset()):
        base = spec.ladder_bases[one.base]
        if isinstance(base, EndpointSection):
            yield one, base, ("bases", one.base) if spec.bases else ("base",)
    if spec.teacher is not None and isinstance(spec.teacher.base, EndpointSection):
        yield spec.teacher.candidate, spec.teacher.base, ("teacher", "base")


def _proposer(spec: Spec) -> Iterator[Fault]:
    """Yield what is wrong with the model that proposes: nobody asks it, or it draws otherwise."""
    base, loc = spec.prompt.proposer, ("prompt", "proposer")
    if base is None:
        return
    candidates = [] if spec.ladder in ("auto", []) else spec.candidates(frozenset())
    settings = [own for candidate in candidates for _, own in candidate.with_defaults]
    if not any(own.get("proposals") for own in settings):
        fix = "Write searched_prompt: {proposals: 8}, or remove it"
        yield Fault(loc, "no technique of the ladder asks 'proposer' for proposals", fix=fix)
    if isinstance(base, EndpointSection):
        for field in overruled(base, {"temperature": 1.0, "top_p": 1.0, "seed": None}):
            what = f"'request' sets '{field}', and proposals are drawn at temperature 1"
            yield Fault((*loc, "request", field), what, found=str(base.request[field]))


def _of(
    part: str, settings: Mapping[str, Any], technique: str, base: EndpointSection, loc: Loc
) -> Iterator[Fault]:
    info = registry.parts("prompts")[part]
    decided = {field: settings.get(field) for field in info.facts.get("decides", ())}
    for field in overruled(base, decided):
        own = "" if decided[field] is None else f" ({decided[field]:g})"
        what = f"'request' sets '{field}', which {part} decides{own} in '{technique}'"
        fix = "Remove it" if not own else f"Remove it, or give {part} the same {field}"
        yield Fault((*loc, "request", field), what, found=str(base.request[field]), fix=fix)
