"""From the spec's budget to a plan: every tuned technique gets the same presentations.

`budget.train_examples` is that number; without it `plan.default_share`. With `budget.seconds` each
candidate is timed on a few rows, and the share is what fits into the time:

    share = (SAFETY x seconds - predictions) / sum over techniques of seconds a presentation

so a slow technique costs all of them presentations alike: equal shares are what makes rows
comparable. If not even `LEAST_TIMED_SHARE` fits, the error says what would.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from savile.chain import train_chain
from savile.deltas.base import Delta
from savile.errors import Problem, UsageError
from savile.job import Job, Plan
from savile.ladder.bench import Bench
from savile.ladder.fits import does_not_fit
from savile.ladder.plan import (
    BATCH_SIZE,
    DEFAULT_EVALUATIONS,
    Cell,
    default_share,
    tuned_cell,
    whole_batches,
)
from savile.ladder.trial import Outcome, as_rows, guarded
from savile.predict import predict
from savile.spec import Candidate, Spec
from savile.technique import Technique, build
from savile.types import Kind, Preference

SAFETY: Final = 0.8
"""Part of the seconds that is planned: timings of small probes scatter."""
LEAST_TIMED_SHARE: Final = 10 * BATCH_SIZE
PROBE_ROWS: Final = 8
PROBE_BATCHES: Final = 3


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one candidate costs on this machine, from a probe."""

    reason: str | None = None
    """Why it cannot run; it then costs nothing."""
    row_seconds: float = 0.0
    """Predicting one row."""
    presentation_seconds: float = 0.0
    """Training on one row once."""
    copies: int = 1
    """Trainings that share its presentations, each with looks at dev of its own."""


def make_plan(
    spec: Spec, candidates: Sequence[Candidate], bench: Bench, n_test: int
) -> tuple[Cell, ...]:
    """Return the cell of every candidate.

    Raises:
        UsageError: the budget is too small for anything to run.
    """
    share = share_of(spec, len(bench.train))
    techniques = {
        candidate.name: build(candidate, bench.frame)
        for candidate in candidates
        if runs(candidate, bench)
    }
    if spec.budget.seconds is not None and techniques:
        probed = {
            c.name: probe(bench.on(c.base), techniques[c.name])
            for c in candidates
            if c.name in techniques
        }
        costs = {name: cost for name, cost in probed.items() if cost.reason is None}
        candidates = [
            replace(c, reason=probed[c.name].reason) if c.name in probed else c for c in candidates
        ]
        share = timed_share(spec, costs, {"dev": len(bench.dev), "test": n_test}, share)
    return tuple(
        cell_of(spec, candidate, techniques.get(candidate.name), bench.on(candidate.base), share)
        for candidate in candidates
    )


def share_of(spec: Spec, n_train: int) -> int:
    """Return the presentations of one tuned technique when time is no limit."""
    given = spec.budget.train_examples
    return default_share(n_train) if given is None else whole_batches(given)


def runs(candidate: Candidate, bench: Bench) -> bool:
    """Return whether the data allow a candidate."""
    left = len(bench.train) - candidate.demonstrations
    return candidate.reason is None and left >= (1 if candidate.deltas else 0)


def cell_of(
    spec: Spec, candidate: Candidate, technique: Technique | None, bench: Bench, share: int
) -> Cell:
    """Return how often a candidate runs and what it may spend."""
    kind: Kind = "tuned" if candidate.deltas else "prompt"
    if technique is None or candidate.reason is not None:
        shown, there = candidate.demonstrations, len(bench.train)
        reason = candidate.reason or f"shows {shown} demonstrations, train has {there} rows"
        return Cell(technique=candidate.name, kind=kind, seeds=0, reason=reason)
    chance = technique.stochastic
    seeds = spec.seeds if chance else 1
    if technique.delta is None:
        return Cell(technique=candidate.name, kind=kind, seeds=seeds, stochastic=chance)
    rate, tries = search_of(technique.delta, spec, bench)
    parts = len(technique.objectives)
    return tuned_cell(candidate.name, seeds, share, rate, tries, parts)


def search_of(delta: Delta, spec: Spec, bench: Bench) -> tuple[float, int]:
    """Return the learning rate to start from and how many to try: the one that the spec sets alone,
    else the delta's own first."""
    if delta.learning_rate is not None:
        return delta.learning_rate, 1
    return delta.start_rate(bench.lm) * spec.budget.search_from, spec.budget.search


def timed_share(spec: Spec, costs: Mapping[str, Cost], rows: Mapping[str, int], most: int) -> int:
    """Return the largest share, `most` at most, with which the whole run fits `budget.seconds`.

    Args:
        spec: its budget and seeds.
        costs: what each candidate costs.
        rows: number of `dev` and `test` rows.
        most: the share when time is no limit.

    Raises:
        UsageError: nothing fits; names what would.
    """
    seconds = SAFETY * (spec.budget.seconds or 0.0)
    fixed = {name: _fixed_seconds(cost, spec, rows) for name, cost in costs.items()}
    per_share = {name: cost.presentation_seconds * spec.seeds for name, cost in costs.items()}
    if not any(per_share.values()):
        share = float(most) if sum(fixed.values()) <= seconds else 0.0
    else:
        share = (seconds - sum(fixed.values())) / sum(per_share.values())
    if share < min(LEAST_TIMED_SHARE, most):
        least = {name: fixed[name] + LEAST_TIMED_SHARE * per_share[name] for name in costs}
        raise _too_little(least, seconds)
    return min(most, whole_batches(share))


def probe(bench: Bench, technique: Technique) -> Cost:
    """Time a few rows of prediction and, for a tuned technique, a few steps of training."""
    result = guarded(lambda: _probe(bench, technique)).result
    if result["status"] != "ok":
        return Cost(reason=result["reason"])
    return Cost(**result["cost"])


def _probe(bench: Bench, technique: Technique) -> Outcome:
    frame = technique.frame(bench.frame, bench.train, bench.seed_of(0, "prompt"))
    seen = [*bench.dev, *bench.train] if technique.delta else bench.dev
    judged = as_rows([*bench.preferences, *bench.dev_preferences])
    frame = bench.located(frame, [*bench.dev, *bench.train, *judged])
    if (reason := does_not_fit(bench.base, frame, seen)) is not None:
        return Outcome(result={"status": "not_run", "reason": reason})
    rows = (bench.dev or bench.train)[:PROBE_ROWS]
    predict(bench.base, frame, rows[:1])
    started = time.perf_counter()
    predict(bench.base, frame, rows)
    row_seconds = (time.perf_counter() - started) / max(len(rows), 1)
    if technique.delta is None:
        return _costs(row_seconds)
    job = Job(
        lm=bench.lm,
        objective=technique.objectives[0],
        frame=frame,
        train=bench.train,
        dev=bench.dev[:1],
        metric=bench.metric,
        plan=Plan(learning_rate=1e-6, examples=BATCH_SIZE, batch_size=BATCH_SIZE, evaluations=1),
        seed=bench.seed_of(0, "train"),
        preferences=bench.preferences,
        dev_preferences=sorted(bench.dev_preferences, key=_single)[:1],  # serves every objective
        reward=bench.reward(frame),
        teacher=None if bench.teaching is None else bench.teaching.of(bench.lm, frame),
    )
    batches = PROBE_BATCHES * BATCH_SIZE * len(technique.objectives)
    longer = replace(job, plan=replace(job.plan, examples=batches))
    with technique.delta.attach(bench.lm, bench.seed_of(0, "delta")) as attached:
        train_chain(job, technique.objectives, attached)
        trained = train_chain(longer, technique.objectives, attached).trained
    copies = max(objective.copies for objective in technique.objectives)
    return _costs(row_seconds, trained.seconds / max(trained.examples, 1), copies)


def _costs(row_seconds: float, presentation_seconds: float = 0.0, copies: int = 1) -> Outcome:
    times = {"row_seconds": row_seconds, "presentation_seconds": presentation_seconds}
    return Outcome(result={"status": "ok", "cost": {**times, "copies": copies}})


def _fixed_seconds(cost: Cost, spec: Spec, rows: Mapping[str, int]) -> float:
    """Predictions that do not depend on the share: dev after training, looks at dev, test."""
    looks = 0
    if cost.presentation_seconds:
        looks = cost.copies * (DEFAULT_EVALUATIONS * spec.seeds + spec.budget.search + 1)
    return cost.row_seconds * (spec.seeds * (rows["dev"] + rows["test"]) + looks * rows["dev"])


def _too_little(least: Mapping[str, float], seconds: float) -> UsageError:
    fits: list[str] = []
    left = seconds
    for name in sorted(least, key=lambda name: least[name]):
        if least[name] > left:
            break
        fits.append(name)
        left -= least[name]
    cheapest = min(least, key=lambda name: least[name])
    return UsageError(
        Problem(
            where="budget.seconds",
            what=f"is too little for {len(least)} techniques on this machine",
            found=f"{seconds / SAFETY:g} seconds",
            expected=f"about {sum(least.values()) / SAFETY:.0f} seconds",
            fix=f"These fit: {', '.join(f'--only {name!r}' for name in fits)}"
            if fits
            else f"The cheapest, {cheapest}, needs about {least[cheapest] / SAFETY:.0f} seconds",
        )
    )


def _single(preference: Preference) -> bool:
    return preference.chosen is None or preference.rejected is None
