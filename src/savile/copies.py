"""An objective that is trained several times from the same start, and its states merged into one.

Every copy gets an equal part of the plan's presentations, in whole batches, and its own order of
rows; the start is the same to the bit. Each is left at its best state by dev score, the objective
merges these states, and what the merged one is worth on dev is measured again. A copy that diverged
is left out, and one that is alone is the result as it is.

Source: Wortsman et al. 2022, arXiv 2203.05482, section 2. There every model has a whole budget;
here they divide one, so that a merged row may be held against the others.

Cost: the gradients of one training, `copies` times its looks at dev and one more, and `copies`
states in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from torch import Tensor

from savile.deltas.base import Attached
from savile.dev import Dev
from savile.job import Job
from savile.lm.model import Work
from savile.meter import Meter, forward_flops, work_since
from savile.train import OnProgress, Progress, Trained, train

MERGED: Final = "merged"
"""The event in a history that says what became of the copies: `copies` that were merged, `of` those
the objective asks for, `diverged` ones, `best_copy` (its dev score), `dev_score`, `dev_loss`."""


def train_copies(job: Job, attached: Attached, *, on_progress: OnProgress | None = None) -> Trained:
    """Train the job's objective as often as it asks for, at most once a step of the plan; leave the
    merged state in place."""
    wanted = job.objective.copies
    if wanted == 1:
        return train(job, attached, on_progress=on_progress)
    n = min(wanted, job.plan.steps)
    part = replace(job.plan, examples=job.plan.examples // n)
    start = attached.state()
    copies: list[Trained] = []
    states: list[dict[str, Tensor]] = []
    for number in range(n):
        attached.load(start)
        own = replace(job, plan=part, seed=job.seed + number)
        hear = further(on_progress, copies, job.plan.examples)
        copy = train(own, attached, on_progress=hear)
        copies.append(copy._replace(history=[{**h, "copy": number} for h in copy.history]))
        if copy.status == "ok":
            states.append(attached.state())
    if not states:
        reason = f"all {n} copies diverged; the first {copies[0].reason}"
        return of_all(copies, copies[0]._replace(reason=reason))
    merged = _merge(job, attached, start, copies, states)
    return of_all([*copies, merged], merged)


def _merge(
    job: Job,
    attached: Attached,
    start: dict[str, Tensor],
    copies: Sequence[Trained],
    states: Sequence[dict[str, Tensor]],
) -> Trained:
    """Leave the merged state in place; return what it is worth and what that took to find out."""
    before = work_since(job.lm, Work())
    with Meter(job.lm) as meter:
        alone = len(states) == 1
        attached.load(states[0] if alone else job.objective.merged(states, start, job.seed))
        dev = Dev(job)
        score, loss, answers = dev.look()
    finite = math.isfinite(loss)
    said = {"dev_score": score, "dev_loss": loss if finite and dev.items else None}
    event: dict[str, Any] = {
        "step": sum(copy.steps for copy in copies),
        "event": MERGED,
        "copies": len(states),
        "of": job.objective.copies,
        "diverged": len(copies) - len(states),
        "best_copy": max(c.dev_score for c in copies if c.dev_score is not None),
    }
    return Trained(
        status="ok" if finite else "diverged",
        reason=None if finite else "the dev loss of the merged state is not finite",
        **said,
        examples=0,
        steps=0,
        tokens=0,
        flops=forward_flops(job.lm, work_since(job.lm, before)),
        seconds=meter.seconds,
        peak_bytes=meter.peak_bytes,
        history=[event | said],
        heads={},
        answers=answers,
    )


def further(listener: OnProgress | None, parts: Sequence[Trained], of: int) -> OnProgress | None:
    """Tell the progress of what follows some parts as that of the whole, `of` presentations."""
    if listener is None:
        return None
    done = sum(part.examples for part in parts)
    return lambda p: listener(Progress(done + p.examples, of, p.loss))


def of_all(parts: Sequence[Trained], last: Trained) -> Trained:
    """Return what `last` came to with the work and the history of all parts."""
    total: dict[str, Any] = {
        name: sum(getattr(part, name) for part in parts)
        for name in ("examples", "steps", "tokens", "flops", "seconds")
    }
    peaks = [part.peak_bytes for part in parts if part.peak_bytes is not None]
    history = [entry for part in parts for entry in part.history]
    return last._replace(**total, peak_bytes=max(peaks, default=None), history=history)
