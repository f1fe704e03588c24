"""From committed units to board rows: scores over the same test rows, and what each technique cost.

    score = mean over seeds of aggregate(sum of the rows' statistics)
    seconds = search + mean over seeds of (trial + test), all that happened for the row

Everything here is a function of what is in the run folder, so a resumed run gives the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from savile import stats
from savile.errors import NothingWorkedError, Problem
from savile.ladder import asking, comparison, costs, merged, room, searched, slowed
from savile.ladder.baselines import Baseline
from savile.ladder.costs import Prices
from savile.ladder.improving import still_improving
from savile.ladder.learning import not_converged, taught
from savile.ladder.mistakes import mistakes, unread
from savile.ladder.story import Story
from savile.metrics.base import Array, Metric
from savile.types import BoardRow, Example, Kind, Prediction, Status


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What every row is held against."""

    metric: Metric
    test: Sequence[Example]
    labels: Sequence[str]
    base: str = ""
    base_parameters: int
    prices: Prices
    seed: int
    budget: str = "budget.train_examples"
    """The key of the spec that limits training."""
    note: str | None = None
    """What to know about the row of every technique."""
    remote: bool = False
    """Whether the base is behind an API."""
    also: Mapping[str, Metric] = field(default_factory=dict)
    """Metrics that stand beside the score, by name."""

    def statistics(self, predictions: Sequence[Prediction]) -> Array:
        """Return the metric's statistics of answers to the test rows: float64 [N, S]."""
        answers = [prediction.answer for prediction in predictions]
        return self.metric.statistics(answers, [e.accepted for e in self.test], self.labels)


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row and, when it has a score, what the verdict compares."""

    row: BoardRow
    measured: stats.Measured | None = None
    improving: bool = False
    """Whether it was still getting better when its budget ended."""
    fell: bool | None = None
    """Whether training lowered its dev loss; None where that is not known."""


def line_of(story: Story, scale: Scale) -> Line:
    """Return the board's line of one technique."""
    if not story.complete:
        return Line(row=_row_without_score(story))
    answers = [unit.predictions for unit in story.measured]
    measured = replace(
        _measured(story.cell.technique, story.cell.kind, answers, scale),
        stochastic=story.cell.stochastic,
    )
    how = still_improving(story.trials, scale.metric.top)
    results = [[unit.result for unit in units] for units in (story.trials, story.measured)]
    against_start = comparison.of_units(*results)
    notes = [
        *comparison.warnings(
            against_start, tuned_start=any(result.get("tuned_start") for result in results[0])
        ),
        *merged.notes(story.trials, scale.metric.top),
        *searched.notes(results[0]),
        *room.notes([*results[0], *results[1]]),
        *asking.notes(results[1]),
        unread(answers),
        scale.note,
        story.cell.note,
        slowed.note(story.trials),
        not_converged(story.searched, story.trials, scale.metric.top),
        how and f"still improving when its budget ended: {how}; give it more {scale.budget}",
    ]
    row = BoardRow(
        technique=story.cell.technique,
        kind=story.cell.kind,
        status="ok",
        reason="; ".join(filter(None, notes)) or None,
        settings={**story.settings, **searched.settings(results[0])},
        compared={**_also(measured, answers, scale), **against_start},
        base=scale.base,
        base_parameters=scale.base_parameters,
        remote=scale.remote,
        **_scores(measured, answers, scale),
        **_learned(story, scale),
        **_costs(story, scale),
    )
    improving, fell = how is not None, taught(story.trials, against_start)
    return Line(row=row, measured=measured, improving=improving, fell=fell)


def line_of_baseline(baseline: Baseline, n_train: int, scale: Scale) -> Line:
    """Return the board's line of a baseline."""
    measured = _measured(baseline.name, "baseline", [baseline.predictions], scale)
    row = BoardRow(
        technique=baseline.name,
        kind="baseline",
        status="ok",
        **_scores(measured, [baseline.predictions], scale),
        compared=_also(measured, [baseline.predictions], scale),
        labels_used=n_train,
        seconds=baseline.seconds,
        predict_seconds=baseline.seconds,
        **costs.of_local(scale.prices, n_train, 0.0, baseline.seconds / max(len(scale.test), 1)),
    )
    return Line(row=row, measured=measured)


def spent_examples(story: Story) -> int:
    """Return the presentations one seed cost, the search included."""
    finals = [t.result.get("examples", 0) for t in story.trials]
    searched = sum(int(r.get("examples", 0)) for r in story.searched)
    return searched + max(map(int, finals), default=0)


def something_worked(document: dict[str, Any]) -> dict[str, Any]:
    """Return the board document; raises NothingWorkedError when no technique has a score."""
    techniques = [row for row in document["board"] if row["kind"] != "baseline"]
    if not any(row["status"] == "ok" for row in techniques):
        problems = [Problem(where=r["technique"], what=r["reason"] or "") for r in techniques]
        raise NothingWorkedError(problems)
    return document


def ordered(rows: Sequence[BoardRow]) -> list[BoardRow]:
    """Return rows by score, best first; those without a score last, by name."""
    return sorted(rows, key=lambda r: (r.score is None, -(r.score or 0.0), r.technique))


def _measured(
    name: str, kind: Kind, answers: Sequence[Sequence[Prediction]], scale: Scale
) -> stats.Measured:
    return stats.Measured(
        name=name,
        kind=kind,
        statistics=tuple(scale.statistics(seed) for seed in answers),
        binary=scale.metric.binary,
    )


def _scores(
    measured: stats.Measured, answers: Sequence[Sequence[Prediction]], scale: Scale
) -> dict[str, Any]:
    score, low, high = stats.interval(measured, scale.metric, scale.seed)
    by_seed = [float(scale.metric.aggregate(s.sum(axis=0))) for s in measured.statistics]
    return {
        "score": score,
        "low": low,
        "high": high,
        "n": len(scale.test),
        "seeds": len(answers),
        "score_by_seed": tuple(by_seed),
        "unparseable": fmean(p.answer is None for seed in answers for p in seed),
        "votes": _mean([p.votes for seed in answers for p in seed]),
        "mistakes": mistakes(scale.metric, scale.test, answers[0], measured.statistics[0]),
    }


def _also(
    measured: stats.Measured, answers: Sequence[Sequence[Prediction]], scale: Scale
) -> dict[str, dict[str, float]]:
    """Return what the other metrics say of the same answers, with limits."""
    found = {}
    for name, metric in scale.also.items():
        other = replace(scale, metric=metric)
        own = replace(
            measured,
            statistics=tuple(other.statistics(seed) for seed in answers),
            binary=metric.binary,
        )
        value, low, high = stats.interval(own, metric, scale.seed)
        found[name] = {"value": value, "low": low, "high": high, "n": float(len(scale.test))}
    return found


def _learned(story: Story, scale: Scale) -> dict[str, Any]:
    results = [trial.result for trial in story.trials]
    trainable = results[0].get("trainable_parameters", 0)
    return {
        "dev_score": _mean([r["dev_score"] for r in results]),
        "labels_used": results[0]["labels_used"],
        "trainable_parameters": trainable,
        "trainable_share": trainable / max(scale.base_parameters, 1),
        "artifact_bytes": results[0]["artifact_bytes"],
        "train_examples": spent_examples(story),
    }


def _costs(story: Story, scale: Scale) -> dict[str, Any]:
    results, tests = [t.result for t in story.trials], [m.result for m in story.measured]
    search_seconds = sum(r["unit_seconds"] for r in story.searched)
    train_seconds = fmean(r.get("train_seconds", 0.0) for r in results)
    predict_seconds = fmean(r["seconds"] for r in tests)
    everything = fmean(r["unit_seconds"] for r in results) + search_seconds
    everything += fmean(r["unit_seconds"] for r in tests)
    answers = [prediction for unit in story.measured for prediction in unit.predictions]
    flops = [r.get("flops", 0.0) for r in results]
    labels = results[0]["labels_used"]
    return {
        "seconds": everything,
        "search_seconds": search_seconds,
        "train_seconds": train_seconds,
        "predict_seconds": predict_seconds,
        "train_flops": sum(r.get("flops", 0.0) for r in story.searched) + fmean(flops),
        "peak_bytes": max((r["peak_bytes"] or 0 for r in [*results, *tests]), default=0) or None,
        "prompt_tokens": fmean(p.prompt_tokens for p in answers),
        "completion_tokens": fmean(p.completion_tokens for p in answers),
        "latency_p50_seconds": fmean(r["latency_p50_seconds"] for r in tests),
        "latency_p95_seconds": fmean(r["latency_p95_seconds"] for r in tests),
        **(
            costs.of_remote(scale.prices, labels, answers)
            if scale.remote
            else costs.of_local(
                scale.prices,
                labels,
                search_seconds + train_seconds,
                predict_seconds / max(len(scale.test), 1),
            )
        ),
    }


def _row_without_score(story: Story) -> BoardRow:
    trouble = story.trouble or {}
    search_seconds = sum(r["unit_seconds"] for r in story.searched)
    units = [[unit.result["unit_seconds"] for unit in of] for of in (story.trials, story.measured)]
    planned = story.cell.reason is not None
    status: Status = "not_run" if planned else trouble.get("status", "failed")
    reason = story.cell.reason if planned else trouble.get("reason", "not finished")
    if story.stopped is not None:
        status, reason = "stopped", story.stopped.reason
    return BoardRow(
        technique=story.cell.technique,
        kind=story.cell.kind,
        status=status,
        reason=reason,
        dev_score=None if story.stopped is None else story.stopped.dev_score,
        search_seconds=search_seconds,
        seconds=search_seconds + sum(fmean(seconds) for seconds in units if seconds),
        train_examples=spent_examples(story),
        settings=story.settings,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
