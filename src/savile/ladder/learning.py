"""Whether training taught a technique anything, by its dev loss and by the prompt it started from.

    fell          = dev loss of the best state <= dev loss before the first step - a  (`search.py`),
                    or held-out preferences are ranked right beyond chance
    not converged = the loss did not fall; or the dev score is lower, beyond noise, than after the
                    search's short run with the same rate; or that rate is an edge of what was tried
    against       = the board's row of the same prompt on the same base without a delta, else the
                    most frequent answer

The loss before the first step is that of the attached delta, under the objective that trains the
policy last; where that objective writes its own answers for a reward, no loss is comparable and
nothing is said of it.

Cost: one forward pass over the dev rows a training.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, NamedTuple

from savile.dev import Dev
from savile.job import Job
from savile.ladder.baselines import majority
from savile.ladder.bench import Bench
from savile.ladder.folder import Unit
from savile.ladder.improving import noise_of
from savile.ladder.search import Ranking, as_good
from savile.ladder.verdict import Start
from savile.lm.local import Local
from savile.lm.model import Work
from savile.meter import forward_flops, work_since
from savile.objectives.base import Objective
from savile.spec import Candidate
from savile.types import BoardRow

Result = Mapping[str, Any]
Compared = Mapping[str, Mapping[str, float]]
"""What `comparison.of_units` gives."""


class Started(NamedTuple):
    """A delta before its first step."""

    loss: float | None
    """On the dev rows; None where no loss is comparable with that of the trained delta."""
    flops: float


def started(job: Job, objectives: Sequence[Objective]) -> Started:
    """Return the dev loss of what is attached, under the last objective that trains the policy; it
    is not known where that learns from a reward, or where none does."""
    last = next((o for o in reversed(objectives) if "policy" in o.gives), None)
    if last is None or "reward" in last.needs:
        return Started(None, 0.0)
    before = work_since(job.lm, Work())
    loss = Dev(replace(job, objective=last)).loss()
    return Started(loss, forward_flops(job.lm, work_since(job.lm, before)))


def ranking_of(bench: Bench) -> Ranking:
    """Return what tells a run's search pieces apart."""
    constant = 0.0
    if bench.train and bench.dev:
        answers = majority(bench.train, bench.dev)
        accepted = [row.accepted for row in bench.dev]
        constant = bench.metric.score(answers, accepted, bench.frame.labels)
    top, prior = bench.metric.top, prior_loss(bench)
    return Ranking(n_dev=len(bench.dev), top=top, constant=constant, prior=prior)


def ranking_for(ranking: Ranking, candidate: Candidate) -> Ranking:
    """Return the ranking of a technique's pieces: only a likelihood of answers is held against
    their frequency."""
    other = {"preferences", "feedback", "reward", "teacher"} & set(candidate.needs)
    return replace(ranking, prior=math.inf) if other else ranking


def prior_loss(bench: Bench) -> float:
    """Return the dev loss a token of answering from a closed set by the answers' frequency among
    the train rows, whatever is asked; infinite for open answers and behind an endpoint.

    The tokens of an answer, the one that ends it included, share the answer's nats.
    """
    if not (bench.frame.labels and bench.train and bench.dev and isinstance(bench.base, Local)):
        return math.inf
    counts = Counter(row.output for row in bench.train)
    total = len(bench.train) + len(bench.frame.labels)  # each label once more: none has odds of 0
    nats = sum(-math.log((counts[row.output] + 1) / total) for row in bench.dev)
    lengths = {label: bench.base.answer_tokens(label) for label in {r.output for r in bench.dev}}
    return nats / sum(lengths[row.output] for row in bench.dev)


def taught(trials: Sequence[Unit], against_start: Compared) -> bool | None:
    """Return whether training lowered the dev loss with some seed, or taught to rank preferences
    that it did not see; None where that is not known."""
    if against_start.get("preference_accuracy", {}).get("low", 0.0) > 0.5:
        return True  # too sure of its ranking, so that the loss rose, and right all the same
    known = len(_comparable(trials))
    return len(_stuck(trials)) < known if known else None


def not_converged(searched: Sequence[Result], trials: Sequence[Unit], top: float) -> str | None:
    """Return why a technique's score is not what it could be, in words; None if nothing says so.

    Args:
        searched: its search pieces.
        trials: its trained seeds.
        top: the metric's highest score.
    """
    pieces = {float(result["learning_rate"]): result for result in searched}
    chosen = float(trials[0].result["learning_rate"])
    if stuck := _stuck(trials):
        before, after = (fmean(r[key] for r in stuck) for key in ("start_loss", "dev_loss"))
        advice = (
            f"none of {len(pieces)} learning rates was right, budget.search_from moves them"
            if pieces
            else f"without the given learning rate, {chosen:g}, it is searched"
        )
        return (
            f"{_of_seeds(stuck, trials)}: dev loss {before:.2f} before training, {after:.2f} after "
            f"it; {advice}"
        )
    if chosen not in pieces or len(pieces) < 2:
        return None
    short = float(pieces[chosen]["dev_score"])
    least = short - noise_of(short, len(trials[0].predictions), top)
    if lost := [t.result for t in trials if t.result["dev_score"] < least]:
        return (
            f"{_of_seeds(lost, trials)}: dev score {fmean(r['dev_score'] for r in lost):.3f}, "
            f"{short:.3f} after the search's short run with the same learning rate, {chosen:g}; a "
            "lower one may hold for longer"
        )
    if all(trial.result["dev_score"] >= top for trial in trials):
        return None
    ends = {max(pieces): ("highest", "higher"), min(pieces): ("lowest", "lower")}
    edge = ends.get(chosen)
    return edge and (
        f"the search did not converge: its learning rate, {chosen:g}, is the {edge[0]} of "
        f"{len(pieces)} that were tried, and a {edge[1]} one may be better; raise budget.search"
    )


def starts_of(
    rows: Sequence[BoardRow], fell: Mapping[str, bool | None], candidates: Iterable[Candidate]
) -> list[Start]:
    """Return what every tuned row of a board is held against to say whether it learned.

    Args:
        rows: the board.
        fell: whether training lowered the dev loss of a technique, as far as that is known.
        candidates: what the techniques of the board are made of.
    """
    by_name = {candidate.name: candidate for candidate in candidates}
    kinds = {row.technique: row.kind for row in rows if row.score is not None}
    prompts = {
        _prompt(by_name[name]): name
        for name, kind in kinds.items()
        if kind == "prompt" and name in by_name
    }
    constant = "majority" if "majority" in kinds else None
    return [
        Start(name, prompts.get(_prompt(by_name[name]), constant), fell.get(name))
        for name, kind in kinds.items()
        if kind == "tuned" and name in by_name
    ]


def _prompt(candidate: Candidate) -> str:
    """Return the same text for the same prompt on the same base."""
    parts = [part for part in candidate.with_defaults if part[0] != "zero_shot"]
    return repr((candidate.base, parts))


def _stuck(trials: Sequence[Unit]) -> list[Result]:
    """Return the seeds whose dev loss training did not lower."""
    return [
        r for r in _comparable(trials) if r["dev_loss"] > r["start_loss"] - as_good(r["start_loss"])
    ]


def _comparable(trials: Sequence[Unit]) -> list[Result]:
    """Return the seeds whose dev loss is known before and after training."""
    results = [trial.result for trial in trials]
    return [r for r in results if r.get("start_loss") is not None and r["dev_loss"] is not None]


def _of_seeds(some: Sequence[Result], trials: Sequence[Unit]) -> str:
    part = f" with {len(some)} of {len(trials)} seeds" if len(some) < len(trials) else ""
    return f"did not converge{part}"
