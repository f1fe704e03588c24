"""Student over teacher: how much of its quality a technique keeps, and at what part of its cost.

    quality = score / teacher's score,  latency = p50 / teacher's p50,  cost = cost / teacher's

A technique is equivalent when the 95 % interval of its paired difference lies above minus the
margin (a non-inferiority test at 2.5 %: Schuirmann 1987, one of its two one-sided tests).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from savile import stats
from savile.errors import Problem, UsageError
from savile.ladder.bench import Bench
from savile.ladder.board import Line
from savile.ladder.teaching import Teaching
from savile.lm.fitting import Fitting
from savile.metrics.base import Metric
from savile.spec import Spec
from savile.spec.ladder import reason as lacking
from savile.technique import build


def teaching_of(spec: Spec, bench: Bench) -> Teaching | None:
    """Open the spec's teacher, asked with demonstrations of this bench's train rows."""
    if spec.teacher is None:
        return None
    gives = frozenset({"pairs"} if bench.train else ())
    gives |= {"system"} if bench.frame.system else frozenset()
    gives |= {"rationales"} if all(row.rationale for row in bench.train) else frozenset()
    if (reason := lacking(spec.teacher.candidate.needs, gives)) is not None:
        raise UsageError(Problem(what=reason, where="teacher.technique"))
    technique = build(spec.teacher.candidate, bench.frame)
    base = bench.bases[len(spec.ladder_bases)]
    frame = technique.frame(bench.frame, bench.train, bench.seed_of(0, "prompt"), Fitting(base))
    frame = bench.neighbors.located(base, frame, [*bench.train, *bench.dev])
    return Teaching(base=base, frame=frame, train=bench.train)


def against_teacher(
    lines: Sequence[Line], teacher: str, margin: float, metric: Metric, seed: int
) -> list[Line]:
    """Return the lines with what each technique is of the teacher.

    Args:
        lines: every line of the board, the teacher's among them.
        teacher: the teacher's technique.
        margin: how far below the teacher still counts as equivalent, in the metric's unit.
        metric: of the board.
        seed: of the bootstrap.
    """
    model = next((line for line in lines if line.row.technique == teacher), None)
    if model is None or model.measured is None:
        return list(lines)
    return [_compared(line, model, margin, metric, seed) for line in lines]


def _compared(line: Line, teacher: Line, margin: float, metric: Metric, seed: int) -> Line:
    row = line.row
    if line is teacher or line.measured is None or teacher.measured is None:
        return line
    if row.kind == "baseline":
        return line
    a, b = stats.resample([line.measured, teacher.measured], metric, seed)
    found = stats.difference(a, b)
    ratios = _ratios(row, teacher.row)
    if found.low > -margin * metric.top:
        words = f"equivalent to the teacher within {margin:g}"
    elif found.high < 0:
        words = "below the teacher"
    else:
        words = f"not shown to be equivalent to the teacher within {margin:g}"
    parts = [f"{value:.2f}x its {name}" for name, value in ratios.items()]
    limits = f"95 % interval {found.low:+.3f} to {found.high:+.3f}"
    said = f"{words} (difference {found.difference:+.3f}, {limits}): {', '.join(parts)}"
    compared = {
        **row.compared,
        "of_teacher": {
            "value": found.difference,
            "low": found.low,
            "high": found.high,
            "n": float(row.n),
        },
        **{f"of_teacher_{name}": {"value": value} for name, value in ratios.items()},
    }
    reason = "; ".join(filter(None, [row.reason, said]))
    return replace(line, row=replace(row, compared=compared, reason=reason))


def _ratios(row: Any, teacher: Any) -> Mapping[str, float]:
    """Return the row's quality, latency and FLOPs of a request as parts of the teacher's."""
    both = {
        "score": (row.score, teacher.score),
        "latency": (row.latency_p50_seconds, teacher.latency_p50_seconds),
        "FLOPs a request": (_request(row), _request(teacher)),
    }
    return {name: own / other for name, (own, other) in both.items() if own is not None and other}


def _request(row: Any) -> float | None:
    tokens = (row.prompt_tokens or 0.0) + (row.completion_tokens or 0.0)
    return 2.0 * row.base_parameters * tokens or None
