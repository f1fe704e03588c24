"""The sealed test: every technique answers the same rows, once, after everything is trained.

Weights are read back from the committed trial, so what is measured is what can be exported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import safetensors.torch

from savile.chain import reward_of
from savile.deltas.base import Attached
from savile.ladder.bench import Bench
from savile.ladder.comparison import of_judge, on_test
from savile.ladder.fits import does_not_fit
from savile.ladder.folder import FRAME, JUDGE, START, WEIGHTS, Unit
from savile.ladder.shown import check_shown
from savile.ladder.trial import Outcome, answers_of, as_rows, guarded
from savile.ladder.written import candidate_from_json, frame_from_json
from savile.lm.base import Base
from savile.lm.local import Local
from savile.meter import Meter
from savile.predict import latency, single_requests
from savile.prompts.base import Frame
from savile.spec import Candidate
from savile.technique import build
from savile.types import Example, Prediction

LATENCY_ROWS = 20


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A committed trial ready to answer: its frame, and its weights when it has some."""

    candidate: Candidate
    frame: Frame
    weights: bytes | None
    start: bytes | None
    """The policy it is compared with."""
    judge: bytes | None
    """The reward model it trained."""
    max_new_tokens: int


def ready_of(trial: Unit) -> Ready:
    """Return what a committed trial needs to answer again."""
    files = trial.files()
    return Ready(
        candidate=candidate_from_json(trial.result["candidate"]),
        frame=frame_from_json(files[FRAME]),
        weights=files.get(WEIGHTS),
        start=files.get(START),
        judge=files.get(JUDGE),
        max_new_tokens=trial.result["max_new_tokens"],
    )


def measure(
    bench: Bench, test: Sequence[Example], trial: Unit, on_passes: Callable[[float], None]
) -> Outcome:
    """Answer every test row with a committed trial; a technique that cannot gets a reason."""
    started = time.perf_counter()
    ready = ready_of(trial)
    bench = bench.on(ready.candidate.base)
    outcome = guarded(lambda: _measure(bench, test, located(bench, test, ready), on_passes))
    spent = {"unit_seconds": time.perf_counter() - started, **bench.base.tally()}
    return replace(outcome, result={**outcome.result, **spent})


def located(bench: Bench, test: Sequence[Example], ready: Ready) -> Ready:
    """Return a trial that has looked up the worked examples of the test, all of them of train."""
    held_out = as_rows(bench.test_preferences)
    frame = bench.located(ready.frame, [*test, *held_out])
    check_shown(frame, bench.train, [*test, *held_out])
    return replace(ready, frame=frame)


def _measure(
    bench: Bench, test: Sequence[Example], ready: Ready, on_passes: Callable[[float], None]
) -> Outcome:
    with attached(bench.base, ready) as on_base:
        held_out = [] if ready.start is None else as_rows(bench.test_preferences)
        if (reason := does_not_fit(bench.base, ready.frame, [*test, *held_out])) is not None:
            return Outcome(result={"status": "not_run", "reason": reason})
        with Meter(bench.base) as meter:
            predictions = answers_of(bench.base, ready.frame, test, ready.max_new_tokens, on_passes)
        check_rows(test, predictions)
        p50, p95 = latency(
            [p.seconds for p in predictions if p.seconds is not None]
            or single_requests(
                bench.base, ready.frame, test[:LATENCY_ROWS], max_new_tokens=ready.max_new_tokens
            )
        )
        moved = {}
        if on_base is not None and ready.start is not None:
            start = safetensors.torch.load(ready.start)
            limit = ready.max_new_tokens
            moved = on_test(bench, on_base, start, ready.frame, test, predictions, limit)
        if on_base is not None and ready.judge is not None:
            judge = safetensors.torch.load(ready.judge)
            objectives = build(ready.candidate, ready.frame).objectives
            judges = (one for one in objectives if "reward" in one.gives)
            moved |= of_judge(bench, reward_of(next(judges), on_base, judge), ready.frame)
    result = {
        "status": "ok",
        "seconds": meter.seconds,
        "peak_bytes": meter.peak_bytes,
        "latency_p50_seconds": p50,
        "latency_p95_seconds": p95,
        "moved": moved,
    }
    return Outcome(result=result, predictions=predictions)


@contextmanager
def attached(base: Base, ready: Ready) -> Iterator[Attached | None]:
    """Put a trial's weights on the base while the block runs."""
    delta = None if ready.weights is None else build(ready.candidate, ready.frame).delta
    if delta is None or ready.weights is None or not isinstance(base, Local):
        yield None
        return
    with delta.attach(base.lm, seed=0) as on_base:  # the seed's draw is replaced by the weights
        on_base.load(safetensors.torch.load(ready.weights))
        yield on_base


def check_rows(test: Sequence[Example], predictions: Sequence[Prediction]) -> None:
    """Every technique answers exactly the same rows: a dropped row would favor who dropped it."""
    if [p.id for p in predictions] != [e.id for e in test]:
        raise AssertionError("a technique did not answer exactly the rows of the test")
