"""The preference builder: pairs from a technique's own answers and the metric, or from logs.

    samples of a train row -> metric of each -> the best is chosen against the worst
    logged answers of a question -> their scores, else the metric -> the same

Only train rows are answered; train rows that ask the same are one question, and each of their
answers is accepted. A sample that was cut at the limit is in no pair: as a chosen answer it would
teach to stop in the middle.

Source: `data/pairing.py`, `drawing.py`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from savile import data, store
from savile.data.logs import Logged, read_logs
from savile.data.pairing import Built, Question, Scored, pair_up
from savile.data.read import Reading, read_file
from savile.data.split import position
from savile.data.text import fold
from savile.errors import DataError, Problem, UsageError
from savile.ladder import progress
from savile.ladder.drawing import Answering, Drawing, answering, draw, was_cut
from savile.ladder.fits import does_not_fit
from savile.ladder.rewards import scores_of
from savile.ladder.task import frame_of, metric_of
from savile.lm.base import Answer
from savile.metrics.base import Metric
from savile.spec import Spec
from savile.types import Example

CUT: Final = "cut before they ended"
UNSCORED: Final = "without a score"
UNASKED: Final = "without a question"


def from_samples(
    spec: Spec,
    drawing: Drawing,
    on_progress: progress.Listener = progress.ignore,
    answers: Path | None = None,
) -> Built:
    """Let a technique answer train rows several times, and pair what the metric tells apart.

    Args:
        spec: data, base, metric and seed.
        drawing: who answers, and how.
        on_progress: told often; an exception it raises stops the work.
        answers: folder of the answers that endpoints gave, so that none is paid twice; None keeps
            none.

    Raises:
        UsageError: no such technique, or one that has to be trained first.
        DataError: not one pair can be built.
    """
    work = progress.Work(1.0, on_progress)
    work.say("load", "the data")
    dataset, metric = data.load(_before_pairs(spec)), metric_of(spec)
    rows = _one_each(dataset.train, drawing.rows)
    with answering(spec, dataset, drawing, rows, answers) as model:
        shown = {row.input for row in model.frame.demonstrations}
        asked = [row for row in rows if row.input not in shown]
        fitting = [row for row in asked if does_not_fit(model.base, model.frame, [row]) is None]
        work.total = float(len(fitting) or 1)
        work.say("predict", f"{model.name}, {drawing.samples} samples a row")
        drawn = draw(model, fitting, drawing, spec.seed, work.at)
        both = list(zip(fitting, drawn, strict=True))
        questions = [_question(model, metric, row, own) for row, own in both]
        work.finish(work.total, f"{len(fitting)} rows answered")
    why = {
        "are shown in the prompt and not asked": len(rows) - len(asked),
        "are longer than the context and not asked": len(asked) - len(fitting),
    }
    n_whole = sum(len(question.answers) for question in questions)
    return pair_up(
        questions,
        per_question=drawing.per_row,
        origin={
            "technique": model.name,
            "base": model.base.name,
            **({} if drawing.run is None else {"run": drawing.run.name}),
            "metric": spec.metric_name,
            "samples": drawing.samples,
            "temperature": drawing.temperature,
            "top_p": drawing.top_p,
            "seed": spec.seed,
        },
        left_out=+Counter({CUT: sum(map(len, drawn)) - n_whole}),
        notes=[f"{count} rows {text}" for text, count in why.items() if count],
    )


def from_logs(spec: Spec, file: Path, *, per_question: int = 1) -> Built:
    """Pair logged answers to the same question by their scores.

    Args:
        spec: how files are read; where the logs have no score, its metric scores the answers to
            train questions.
        file: the logs; see `data/logs.py`.
        per_question: most pairs of one question.

    Raises:
        DataError: the file holds no logs, or not one pair can be built.
    """
    section = spec.data
    reading = Reading(section.delimiter, section.encoding, section.max_line)
    logs = read_logs(read_file(file, file.name, reading))
    answers, scored_by = list(logs.answers), logs.columns[2]
    if scored_by is None:
        answers, scored_by = _scored_by_metric(spec, answers, file), spec.metric_name
    left_out: Counter[str] = Counter()
    by_question: dict[str, list[Logged]] = defaultdict(list)
    for one in answers:
        if not one.input.strip():
            left_out[UNASKED] += 1
        elif one.score is None:
            left_out[UNSCORED] += 1
        else:
            by_question[fold(one.input)].append(one)
    questions = [
        Question(
            own[0].input,
            [Scored(a.answer, a.score, {"line": a.line}) for a in own if a.score is not None],
        )
        for own in by_question.values()
    ]
    used = ", ".join(repr(column) for column in logs.columns if column)
    return pair_up(
        questions,
        per_question=per_question,
        origin={"logs": file.name, "metric": scored_by},
        left_out=left_out,
        notes=[f"{file.name}: read the columns {used}"],
    )


def write(built: Built, out: Path) -> None:
    """Write the pairs as JSONL, whole or not at all; see `free` for what `out` may be."""
    lines = (store.dump_json(dict(pair), indent=None) for pair in built.pairs)
    store.write_atomic(out, b"".join(lines))


def free(out: Path) -> None:
    """Refuse a file that is there already, or that would not be read back as JSONL.

    Raises:
        UsageError: before anything is computed.
    """
    if out.suffix != ".jsonl":
        raise UsageError(Problem(where=str(out), what="should be named .jsonl: it is read as such"))
    if out.exists():
        raise UsageError(Problem(where=str(out), what="is there already", fix="Name another file"))


def _one_each(train: Sequence[Example], most: int | None) -> list[Example]:
    """Return one row for each question, with every answer that its rows accept."""
    by_question: dict[str, list[Example]] = defaultdict(list)
    for row in train:
        by_question[row.input].append(row)
    rows = [
        replace(same[0], references=tuple(dict.fromkeys(a for row in same for a in row.accepted)))
        for same in by_question.values()
    ]
    if most is None or len(rows) <= most:
        return rows
    kept = {row.id for row in sorted(rows, key=lambda row: position(row.id))[:most]}
    return [row for row in rows if row.id in kept]


def _before_pairs(spec: Spec) -> Spec:
    """Return the spec without `data.preferences`, which may name the file that is to be built."""
    return spec.model_copy(update={"data": spec.data.model_copy(update={"preferences": None})})


def _question(
    model: Answering, metric: Metric, row: Example, answers: Sequence[Answer]
) -> Question:
    """Score the answers to a row that ended by themselves."""
    whole = [(n, one) for n, one in enumerate(answers) if not was_cut(model, row, one)]
    texts = [answer.text for _, answer in whole]
    scores = scores_of(model.frame, metric, texts, [row] * len(texts))
    found = zip(whole, scores, strict=True)
    scored = [
        Scored(model.frame.meant(answer.text), score, {"sample": n}) for (n, answer), score in found
    ]
    return Question(row.input, scored, {"row": row.id})


def _scored_by_metric(spec: Spec, answers: Sequence[Logged], file: Path) -> list[Logged]:
    """Return logged answers to train questions with their score, the others without one."""
    dataset = data.load(_before_pairs(spec))
    frame, metric = frame_of(spec, dataset), metric_of(spec)
    rows = {fold(row.input): row for row in _one_each(dataset.train, None)}
    known = [rows.get(fold(one.input)) for one in answers]
    if not any(known):
        raise DataError(
            Problem(
                where=file.name,
                what="has no column with scores, and none of its questions is that of a train row",
                expected="score, rating, reward, label or metric",
                fix="Add the column, or log answers to train rows: the metric scores these",
            )
        )
    pairs = [(one, row) for one, row in zip(answers, known, strict=True) if row is not None]
    scores = scores_of(frame, metric, [one.answer for one, _ in pairs], [row for _, row in pairs])
    return [one._replace(score=score) for (one, _), score in zip(pairs, scores, strict=True)] + [
        one for one, row in zip(answers, known, strict=True) if row is None
    ]
