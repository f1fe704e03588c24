"""What a row should say of copies that were merged into one: that it cost quality, or that some are
missing.

    worse:  s - merged dev score  >  2 sqrt(s (1 - s) / n_dev)         s: the best copy's dev score

Scores are means over seeds. The best of several copies is partly luck, so a merged state that is as
good on new rows looks a little worse than it on dev; twice the standard error leaves room for that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from savile.copies import MERGED
from savile.ladder.folder import Unit
from savile.ladder.improving import noise_of


def notes(trials: Sequence[Unit], top: float) -> list[str]:
    """Return what to know about the merging of a technique, in words; nothing where all is well.

    Args:
        trials: its trained seeds.
        top: the metric's highest score.
    """
    histories = (trial.result.get("history") or () for trial in trials)
    events = [entry for h in histories for entry in h if entry.get("event") == MERGED]
    names = dict.fromkeys(event["objective"] for event in events)
    n_dev = len(trials[0].predictions) if trials else 0
    return [
        f"{name}: {words}"
        for name in names
        for words in _of_one([e for e in events if e["objective"] == name], n_dev, top)
    ]


def _of_one(events: Sequence[Mapping[str, Any]], n_dev: int, top: float) -> list[str]:
    best = fmean(event["best_copy"] for event in events)
    merged = fmean(event["dev_score"] for event in events)
    diverged = sum(event["diverged"] for event in events)
    trained = sum(event["copies"] for event in events) + diverged
    wanted = sum(event["of"] for event in events)
    said = []
    if best - merged > noise_of(best, n_dev, top):
        said.append(
            f"merging made it worse: dev score {best:.3f} of the best copy, {merged:.3f} merged"
        )
    if diverged:
        said.append(f"{diverged} of {trained} copies diverged and are left out")
    if trained < wanted:
        said.append(f"{trained} copies instead of {wanted}: its share has no more steps")
    return said
