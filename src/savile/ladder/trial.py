"""One trial: a candidate with one seed, trained on train, judged on dev; the test is out of reach.

A technique that cannot be run (its prompt does not fit, it diverges, memory runs out) gets a result
with a status and a reason, and the others go on; a bug is not caught.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from savile import store
from savile.chain import train_chain
from savile.deltas.base import Attached
from savile.errors import DiskProblem, InterruptedRun, NoMemory, SavileError, UnusableBase
from savile.job import Job, Plan
from savile.ladder import room, searched
from savile.ladder.bench import Bench
from savile.ladder.comparison import on_dev
from savile.ladder.fits import does_not_fit
from savile.ladder.folder import FRAME, JUDGE, START, WEIGHTS, Unit
from savile.ladder.learning import started
from savile.ladder.plan import BATCH_SIZE, DEFAULT_EVALUATIONS, SEARCH_EVALUATIONS
from savile.ladder.progress import PASSES_TRAINED_ROW
from savile.ladder.shown import check_shown, shown_record
from savile.ladder.written import candidate_json, finite, frame_from_json, frame_json
from savile.lm import memory
from savile.lm.base import Base
from savile.lm.fitting import Fitting
from savile.meter import Meter
from savile.objectives.base import Objective
from savile.predict import answer_limit, predict
from savile.prompts.base import Frame
from savile.spec import Candidate
from savile.technique import build
from savile.train import Progress
from savile.types import Example, Prediction, Preference

TOLD = (
    *("status", "reason", "dev_score", "dev_loss", "history"),
    *("examples", "steps", "tokens", "peak_bytes"),
)
"""What a trial's record says as its training says it."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a trial leaves behind: a JSON result, answers on dev, files."""

    result: Mapping[str, Any]
    predictions: Sequence[Prediction] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A trial that is to be run."""

    candidate: Candidate
    seed_index: int
    learning_rate: float = 0.0
    """Peak learning rate of a tuned technique."""
    reached: float | None = None
    """Dev loss of the search's short run with that rate."""
    examples: int = 0
    """Presentations; 0 for a prompt."""
    search: bool = False
    """A search piece: judged on dev once, nothing of it is kept but its scores."""
    raced: bool = False
    """Whether a search piece leaves its answers on dev, for the race to compare."""
    begun: Unit | None = None
    """A prompt's answers to the first dev rows, to go on from."""
    on_passes: Callable[[float], None] = lambda passes: None
    """Told how many row passes are done; may raise InterruptedRun."""


def run_trial(bench: Bench, attempt: Attempt) -> Outcome:
    """Run one trial; a technique that cannot be run comes back with its status and reason."""
    bench = bench.on(attempt.candidate.base)
    with Meter(bench.base) as meter:
        outcome = guarded(lambda: _run(bench, attempt))
    peaks = [outcome.result.get("peak_bytes"), meter.peak_bytes]  # one inside begins again
    peak = max(filter(None, peaks), default=None)
    spent = {"unit_seconds": meter.seconds, "peak_bytes": peak, **bench.tally()}
    asked = {
        "technique": attempt.candidate.name,
        "candidate": candidate_json(attempt.candidate),
        "seed_index": attempt.seed_index,
        "learning_rate": attempt.learning_rate,
    }
    return Outcome(
        result={**asked, **outcome.result, **spent},
        predictions=outcome.predictions,
        files=outcome.files,
    )


def guarded(work: Callable[[], Outcome]) -> Outcome:
    """Turn an error of a technique into a result; signals, bugs and full disks go through."""
    try:
        return work()
    except (InterruptedRun, UnusableBase, DiskProblem):
        raise
    except OSError as error:
        if store.is_full(error):
            raise store.disk_problem(error, Path(error.filename or ".")) from error
        raise
    except SavileError as error:
        return _failed("not_run" if isinstance(error, NoMemory) else "failed", str(error))
    except (MemoryError, RuntimeError) as error:
        if memory.ran_out(error):
            return _failed("failed", f"out of memory: {str(error).strip()[:200]}")
        raise


def _run(bench: Bench, attempt: Attempt) -> Outcome:
    if attempt.begun is not None:
        return _continued(bench, attempt, attempt.begun)
    technique = build(attempt.candidate, bench.frame)
    seed = bench.seed_of(attempt.seed_index, "prompt")
    fitting = Fitting(bench.base, lambda: attempt.on_passes(0.0), bench.proposer)
    frame = technique.frame(bench.frame, bench.train, seed, fitting)
    if technique.delta is None:
        return _prompted(bench, attempt, bench.located(frame, bench.dev), fitting.asked)
    frame = bench.located(frame, [*bench.train, *bench.dev, *_seen(bench, technique.objectives)])
    torch.manual_seed(bench.seed_of(attempt.seed_index, "torch"))
    with technique.delta.attach(bench.lm, bench.seed_of(attempt.seed_index, "delta")) as attached:
        return _tuned(bench, attempt, technique.objectives, frame, attached)


def _prompted(bench: Bench, attempt: Attempt, frame: Frame, tried: int) -> Outcome:
    """Judge a prompt on dev; to make it, the base was asked `tried` rows whose labels were read."""
    if (reason := does_not_fit(bench.base, frame, bench.dev)) is not None:
        return _failed("not_run", reason)
    check_shown(frame, bench.train, bench.dev)
    limit = answer_limit(bench.base, frame, bench.train)
    expected = room.answering(bench.base, frame, bench.dev, limit)
    predictions = _dev_answers(bench, attempt, frame, limit, 0.0)
    shown = frame_json(frame.portable())
    result = {
        "status": "ok",
        "dev_score": _score(bench, frame, predictions) if bench.dev else None,
        "max_new_tokens": limit,
        "expected_bytes": expected,
        "labels_used": max(len(frame.examples), tried),
        "shown": shown_record(frame),
        "artifact_bytes": len(shown),
        **searched.record(frame),
    }
    return Outcome(result=result, predictions=predictions, files={FRAME: shown})


def _continued(bench: Bench, attempt: Attempt, begun: Unit) -> Outcome:
    """Judge a prompt on the dev rows that its short run left out."""
    made = begun.files()[FRAME]
    frame = bench.located(frame_from_json(made), bench.dev)
    if (reason := does_not_fit(bench.base, frame, bench.dev)) is not None:
        return _failed("not_run", reason)
    check_shown(frame, bench.train, bench.dev)
    rest, limit = bench.dev[len(begun.predictions) :], begun.result["max_new_tokens"]
    rest_answers = answers_of(bench.base, frame, rest, limit, attempt.on_passes)
    predictions = [*begun.predictions, *rest_answers]
    result = {**begun.result, "dev_score": _score(bench, frame, predictions)}
    return Outcome(result=result, predictions=predictions, files={FRAME: made})


def _tuned(
    bench: Bench,
    attempt: Attempt,
    objectives: Sequence[Objective],
    frame: Frame,
    attached: Attached,
) -> Outcome:
    seen = _seen(bench, objectives)
    if (reason := does_not_fit(bench.base, frame, [*bench.train, *bench.dev, *seen])) is not None:
        return _failed("not_run", reason)
    check_shown(frame, bench.train, [*bench.train, *bench.dev])
    job = _job(bench, attempt, objectives, frame)

    def hear(progress: Progress) -> None:
        attempt.on_passes(progress.examples * PASSES_TRAINED_ROW)

    way = room.fitted(attempt.candidate.name, job, objectives, attached, bench.needs)
    start = started(job, objectives)
    chained, said = room.trained(
        way, attached, lambda own: train_chain(own, objectives, attached, on_progress=hear)
    )
    trained = chained.trained
    result = {
        **{name: getattr(trained, name) for name in TOLD},
        "start_loss": start.loss,
        "flops": trained.flops + start.flops,
        "train_seconds": trained.seconds,
        **said,
    }
    result = finite(result)
    if trained.status != "ok" or (attempt.search and not attempt.raced):
        return Outcome(result=result)
    predictions = trained.answers or _dev_answers(
        bench, attempt, frame, job.max_new_tokens, trained.examples * PASSES_TRAINED_ROW
    )
    if attempt.search:
        return Outcome(result=result, predictions=predictions)
    weights = safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in attached.state().items()}
    )
    exported = attached.to_peft()  # without what only training needs, as a prompt encoder
    result |= {
        "max_new_tokens": job.max_new_tokens,
        "labels_used": _labels(bench, objectives),
        "shown": shown_record(frame),
        "artifact_bytes": len(weights if exported is None else exported.blob()),
        "trainable_parameters": sum(p.numel() for p in attached.parameters().values()),
        **searched.record(frame),
    }
    files = {FRAME: frame_json(frame.portable()), WEIGHTS: weights}
    if chained.start is not None:
        result |= {"moved": on_dev(job, attached, chained), "tuned_start": chained.tuned_start}
        files[START] = safetensors.torch.save(dict(chained.start))
    if chained.judge:
        files[JUDGE] = safetensors.torch.save(dict(chained.judge))
    return Outcome(result=result, predictions=predictions, files=files)


def _job(bench: Bench, attempt: Attempt, objectives: Sequence[Objective], frame: Frame) -> Job:
    return Job(
        lm=bench.lm,
        objective=objectives[0],
        frame=frame,
        train=bench.train,
        dev=bench.dev,
        metric=bench.metric,
        plan=Plan(
            learning_rate=attempt.learning_rate,
            reached=attempt.reached,
            examples=attempt.examples,
            batch_size=BATCH_SIZE,
            evaluations=SEARCH_EVALUATIONS if attempt.search else DEFAULT_EVALUATIONS,
        ),
        seed=bench.seed_of(attempt.seed_index, "train"),
        max_new_tokens=answer_limit(bench.base, frame, bench.train),
        preferences=bench.preferences,
        dev_preferences=bench.dev_preferences,
        reward=bench.reward(frame),
        teacher=None if bench.teaching is None else bench.teaching.of(bench.lm, frame),
    )


def _judged(bench: Bench, objectives: Sequence[Objective]) -> Sequence[Preference]:
    """Return the preferences that objectives learn from and choose by."""
    needs = {need for objective in objectives for need in objective.needs}
    used = needs & {"preferences", "feedback"}
    return [*bench.preferences, *bench.dev_preferences] if used else ()


def _seen(bench: Bench, objectives: Sequence[Objective]) -> list[Example]:
    """Return every judged answer that objectives use, as a row."""
    return as_rows(_judged(bench, objectives))


def as_rows(preferences: Sequence[Preference]) -> list[Example]:
    """Return every judged answer as a row."""
    return [
        Example(id=p.id, input=p.input, output=answer)
        for p in preferences
        for answer in (p.chosen, p.rejected)
        if answer is not None
    ]


def _labels(bench: Bench, objectives: Sequence[Objective]) -> int:
    """Return how many labels objectives learned from, and chose their best state by."""
    pairs = any("pairs" in objective.needs for objective in objectives)
    rows = len(bench.train) if pairs else 0
    return rows + len(bench.dev) + len(_judged(bench, objectives))


def _dev_answers(
    bench: Bench, attempt: Attempt, frame: Frame, limit: int, passes: float
) -> list[Prediction]:
    return answers_of(
        bench.base, frame, bench.dev, limit, lambda done: attempt.on_passes(passes + done)
    )


def answers_of(
    base: Base,
    frame: Frame,
    examples: Sequence[Example],
    max_new_tokens: int,
    on_passes: Callable[[float], None] = lambda passes: None,
) -> list[Prediction]:
    """Return the answers to `examples` with whatever is attached, telling how many are done."""
    done = 0

    def hear(rows: int) -> None:
        nonlocal done
        done += rows
        on_passes(done)

    return predict(base, frame, examples, max_new_tokens=max_new_tokens, on_rows=hear)


def _score(bench: Bench, frame: Frame, predictions: Sequence[Prediction]) -> float:
    answers = [prediction.answer for prediction in predictions]
    references = [example.accepted for example in bench.dev]
    return bench.metric.score(answers, references, frame.labels)


def _failed(status: str, reason: str) -> Outcome:
    return Outcome(result={"status": status, "reason": reason})
