"""Whether a technique was still getting better when its budget ended: more of it may change a row.

    by loss:   lowest at earlier looks - last look   >= max(0.02 nats, 5 % of that lowest)
    by score:  last look - highest at earlier looks  >  2 sqrt(s (1 - s) / n_dev), s that highest

The loss speaks where every look has one, for it moves before the score does; the score else. There
is nothing to gain at the metric's top, and a score that falls beyond its noise is no improvement.
Curves are means over seeds and over the copies that are merged; they belong to the objective that
trained last. The learning rate decays to 0, so a curve that still moves this much has not
converged; the reverse is not claimed.

Source: ours; 0.02 nats is what the search cannot tell apart (`search.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Final, NamedTuple

from savile.ladder.folder import Unit
from savile.ladder.search import AS_GOOD

LEAST_PART: Final = 0.05
"""Part of the dev loss that goes in the last stretch of a curve that has not converged."""


class Look(NamedTuple):
    """One look at dev, mean over seeds."""

    step: int
    score: float
    loss: float | None


def still_improving(trials: Sequence[Unit], top: float = 1.0) -> str | None:
    """Return how a technique was still getting better at the end of its training, None if not.

    Args:
        trials: its trained seeds.
        top: the metric's highest score.
    """
    looks = _looks([trial.result.get("history") or () for trial in trials])
    if len(looks) < 2 or looks[-1].score >= top:
        return None
    *earlier, last = looks
    highest = max(look.score for look in earlier)
    noise = noise_of(highest, len(trials[0].predictions), top)
    stretch = f"over its last {100 * (1 - earlier[-1].step / last.step):.0f} %"
    losses = [look.loss for look in looks if look.loss is not None]
    if len(losses) < len(looks):
        risen = f"dev score {highest:.3f} -> {last.score:.3f} {stretch}"
        return risen if last.score > highest + noise else None
    lowest = min(losses[:-1])
    fell = lowest - losses[-1] >= max(AS_GOOD, LEAST_PART * lowest)
    fallen = f"dev loss {lowest:.2f} -> {losses[-1]:.2f} {stretch}"
    return fallen if fell and last.score >= highest - noise else None


def noise_of(score: float, n_dev: int, top: float) -> float:
    """Return two standard errors of a score on `n_dev` rows, as of a share of right answers."""
    share = min(max(score / top, 0.0), 1.0)
    return 2 * top * math.sqrt(share * (1 - share) / max(n_dev, 1))


def _looks(histories: Sequence[Sequence[Mapping[str, Any]]]) -> list[Look]:
    """Return the mean of the seeds' looks; none when they looked at different steps."""
    curves = [curve for history in histories for curve in _curves(history)]
    if len({tuple(look["step"] for look in curve) for curve in curves}) != 1:
        return []
    return [
        Look(
            step=looks[0]["step"],
            score=fmean(look["dev_score"] for look in looks),
            loss=None if None in (found := [k["dev_loss"] for k in looks]) else fmean(found),
        )
        for looks in zip(*curves, strict=True)
    ]


def _curves(history: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Return the looks of the last objective, of each copy by itself."""
    looks = [entry for entry in history if "dev_score" in entry and "event" not in entry]
    last = [look for look in looks if look.get("objective") == looks[-1].get("objective")]
    copies = dict.fromkeys(look.get("copy") for look in last)
    return [[look for look in last if look.get("copy") == copy] for copy in copies]
