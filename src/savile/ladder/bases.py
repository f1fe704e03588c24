"""The base of a spec, wherever its weights are: loaded here, or opened behind an API."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch

from savile import store
from savile.ladder.folder import RunFolder
from savile.lm import endpoint
from savile.lm import load as weights
from savile.lm.base import Base
from savile.lm.endpoint.purse import Purse
from savile.lm.local import Local
from savile.spec import Spec
from savile.spec.endpoint import EndpointSection
from savile.spec.model import ComputeSection

ONE_THREAD: Final = 3_000_000
"""Parameters below which a second CPU thread gains nothing (24.2 s with one, 23.6 s with two for
one million) and stalls up to twentyfold when something else runs on its core (docs/log.md)."""


def identity(base: str | EndpointSection, folder: Path) -> str:
    """Return the sha256 that stands for a base in the manifest; `folder` is the spec's."""
    if isinstance(base, EndpointSection):
        return endpoint.identity(base)
    return weights.identity(base, folder)


class Till(NamedTuple):
    """What all endpoints of a run share."""

    purse: Purse
    """What may be paid."""
    answers: Path | None = None
    """Folder of kept answers; None keeps none."""


def open_base(
    base: str | EndpointSection, folder: Path, compute: ComputeSection, till: Till | None = None
) -> Base:
    """Load a base with its device, precision and threads, or open an endpoint.

    Args:
        base: the spec's.
        folder: of the spec, where relative folders start.
        compute: where a model runs.
        till: of the run; None: no limit, and no answer is kept.
    """
    if isinstance(base, EndpointSection):
        return endpoint.open_endpoint(base, *(till or Till(Purse())))
    if compute.threads is not None:
        torch.set_num_threads(compute.threads)
    lm = weights.load(
        base,
        folder=folder,
        device=compute.device,
        dtype=compute.dtype,
        quantization=compute.quantization,
    )
    if compute.threads is None and lm.n_parameters < ONE_THREAD:
        torch.set_num_threads(1)
    return Local(lm)


def bases_of(spec: Spec, run: RunFolder) -> tuple[Base, ...]:
    """Open every base of a run, the teacher's and the judge's last; what was paid and answered is
    known."""
    store.mend_events(run.payments_path)

    def record(payment: Mapping[str, Any]) -> None:
        store.append_event(run.payments_path, {"time": store.now(), **payment})

    till = Till(Purse(spec.budget.usd, paid=paid_by(run), record=record), run.answers_path)
    return tuple(open_base(base, spec.folder, spec.compute, till) for base in spec.every_base)


def paid_by(run: RunFolder) -> float:
    """Return the USD that a run paid to endpoints."""
    return sum(float(payment["usd"]) for payment in store.read_events(run.payments_path))


def as_json(base: str | EndpointSection) -> Any:
    """Return a base as the manifest keeps it."""
    return base if isinstance(base, str) else base.model_dump(mode="json")


def from_json(value: Any) -> str | EndpointSection:
    """Return the base that a manifest keeps."""
    return value if isinstance(value, str) else EndpointSection.model_validate(value)


def name_of(base: str | EndpointSection) -> str:
    """Return what people call a base."""
    return base if isinstance(base, str) else base.name
