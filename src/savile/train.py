"""The one training loop: it knows deltas and objectives by their contracts alone.

AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101), linear warm-up and decay, clipping of the global
gradient norm, gradient accumulation over the trees of a step, and the best state by the task's own
metric on the dev rows kept. A step whose loss or gradient is not finite is never applied: the last
good state comes back and the learning rate is halved, at most `MAX_ROLLBACKS` times. A look at dev
that finds a training collapsed, its loss more than twice what it was at its best or after a short
run with the same rate and its score no better than the best, brings the best state back too and
quarters the rate for the steps left, as often at most; but a first look below half of the first
step's loss is no collapse, for a short run ends with a low rate.
"""

from __future__ import annotations

import contextlib
import copy
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple

import torch
from torch import nn

from savile.deltas.base import Attached
from savile.dev import Dev, enough
from savile.job import Job, training_data
from savile.lm.features import remembered
from savile.lm.model import LM, Work
from savile.masters import Masters
from savile.meter import Meter, backward_flops, forward_flops, work_since
from savile.types import Prediction

MAX_ROLLBACKS: Final = 3
NOT_FINITE: Final = "not finite"
HAS_COLLAPSED: Final = "collapsed"
COLLAPSED: Final = 0.1
"""Nats by which a dev loss must exceed twice the best one: near 0 a multiple says nothing."""


class Progress(NamedTuple):
    """Where a training stands."""

    examples: int
    of: int
    loss: float


class Trained(NamedTuple):
    """What a training gave; the attached delta holds the best state by dev score."""

    status: str
    """`ok` or `diverged`."""
    reason: str | None
    dev_score: float | None
    """None when no state was ever scored."""
    dev_loss: float | None
    """Of the dev rows that show their whole target; None when none does or no state was scored."""
    examples: int
    steps: int
    tokens: int
    """Tokens as separate sequences, forward and backward."""
    flops: float
    seconds: float
    peak_bytes: int | None
    history: list[dict[str, Any]]
    heads: dict[str, nn.Module]
    """What the objective trained beside the delta, at the best state."""
    answers: Sequence[Prediction] = ()
    """To the dev rows, of the best state; empty where the objective has a score of its own."""


OnProgress = Callable[[Progress], None]


def train(job: Job, attached: Attached, *, on_progress: OnProgress | None = None) -> Trained:
    """Train what is attached and leave its best state by dev score in place."""
    with Meter(job.lm) as meter, remembered(job.lm):
        loop = _Loop(job, attached, on_progress)
        with carrying(job.lm, loop.heads):
            loop.run()
    return Trained(
        status="ok" if loop.diverged is None else "diverged",
        reason=loop.diverged,
        dev_score=loop.best[0] if loop.scored else None,
        dev_loss=-loop.best[1] if loop.scored and loop.dev.items else None,
        examples=loop.examples,
        steps=loop.step,
        tokens=loop.tokens,
        flops=loop.flops(),
        seconds=meter.seconds,
        peak_bytes=meter.peak_bytes,
        history=loop.history,
        heads=loop.heads,
        answers=loop.best_answers,
    )


@contextlib.contextmanager
def carrying(lm: LM, heads: Mapping[str, nn.Module]) -> Iterator[None]:
    """Give the model heads inside the context."""
    lm.heads, before = {**lm.heads, **heads}, lm.heads
    try:
        yield
    finally:
        lm.heads = before


class _Loop:
    """The state of one training."""

    def __init__(self, job: Job, attached: Attached, on_progress: OnProgress | None) -> None:
        self.job, self.attached, self.on_progress = job, attached, on_progress
        self.before = work_since(job.lm, Work())
        self.best_state = attached.state()
        self.start = self.best_state if job.objective.uses_reference else {}
        self.heads = _heads(job)
        self.data = training_data(job, job.train, job.preferences, self._reference)
        with job.lm.mixed_precision():
            self.items = job.objective.items(job.lm, self.data)
        self.dev = Dev(job, self._reference)
        enough(job, self.items, self.dev)
        named = attached.parameters()
        owned = [p for head in self.heads.values() for p in head.parameters()]
        self.masters = Masters([*named.values(), *owned])
        self.peaks = [
            *(job.plan.learning_rate * attached.rate_factor(name) for name in named),
            *(job.objective.head_rate for _ in owned),
        ]
        self.step = self.examples = self.tokens = 0
        self.work = Work()
        self.told: Counter[str] = Counter()
        self.told_steps = 0
        self.slowdown, self.rollbacks = 1.0, Counter[str]()
        self.first_loss: float | None = None
        self.best: tuple[float, float] = (float("-inf"), float("-inf"))
        self.best_answers: Sequence[Prediction] = ()
        self.reached = math.inf if job.plan.reached is None else job.plan.reached
        """The lowest dev loss so far."""
        self.best_heads = {k: copy.deepcopy(v.state_dict()) for k, v in self.heads.items()}
        self.history: list[dict[str, Any]] = []
        self.diverged: str | None = None
        self._optimizer()

    @property
    def scored(self) -> bool:
        """Whether some state had a finite loss on the dev rows."""
        return math.isfinite(self.best[1])

    def _optimizer(self) -> None:
        both = list(zip(self.peaks, self.masters.tensors, strict=True))
        groups = [
            {"params": [tensor for own, tensor in both if own == peak], "peak": peak}
            for peak in sorted(set(self.peaks))
        ]
        decay = self.job.plan.weight_decay
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, weight_decay=decay, fused=True)

    def run(self) -> None:
        plan, job = self.job.plan, self.job
        marks = {round(plan.steps * i / plan.evaluations) for i in range(1, plan.evaluations + 1)}
        rng = random.Random(job.seed)
        for step in self._steps(rng):
            loss, told = self._gradients(step)
            if self._apply(loss):
                self.first_loss = loss if self.first_loss is None else self.first_loss
                self.told.update(told)
                self.told_steps += 1
                self.step += 1
                self.examples += sum(batch.examples for batch in step)
                if self.on_progress is not None:
                    self.on_progress(Progress(self.examples, plan.batch_size * plan.steps, loss))
                if self.step in marks:
                    self._evaluate(loss)
            if self.diverged is not None or self.step >= plan.steps:
                break
        if self.diverged is None and not self.scored:
            self.diverged = f"diverged by step {self.step}: the dev loss is not finite"
        self._return_to_best()

    def _steps(self, rng: random.Random) -> Iterator[Sequence[Any]]:
        """Yield the objective's steps; what it computes for them has the precision of the loss, so
        that a policy that has not moved is its own reference."""
        job = self.job
        steps = job.objective.batches(job.lm, self.data, self.items, rng)
        while True:
            with job.lm.mixed_precision():
                step = next(steps)
            yield step

    def _reference(self) -> AbstractContextManager[None]:
        return self.attached.at(self.start)

    def _return_to_best(self) -> None:
        self.attached.load(self.best_state)
        for name, head in self.heads.items():
            head.load_state_dict(self.best_heads[name])

    def _gradients(self, step: Sequence[Any]) -> tuple[float, Counter[str]]:
        """Accumulate the gradients of one optimizer step; return its loss and what it logs."""
        lm, total, logged = self.job.lm, 0.0, Counter[str]()
        before = work_since(lm, Work())
        for batch in step:
            with lm.mixed_precision():
                loss, told = self.job.objective.loss(lm, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            logged.update(told)
            self.tokens += batch.tree.separate_tokens
        trained = work_since(lm, before)
        self.work.tokens += trained.tokens
        self.work.predictions += trained.predictions
        return total, logged

    def flops(self) -> float:
        """Return the FLOPs of everything: gradients, and forward passes that write and judge."""
        lm = self.job.lm
        gradients = backward_flops(lm, self.work, self.attached.parameters().values())
        return forward_flops(lm, work_since(lm, self.before)) + gradients

    def _apply(self, loss: float) -> bool:
        """Take the step if loss and gradient are finite, else roll back."""
        self.masters.collect()
        norm = torch.nn.utils.clip_grad_norm_(self.masters.tensors, self.job.plan.max_grad_norm)
        good = bool(torch.isfinite(norm)) and math.isfinite(loss)
        if good:
            for group in self.optimizer.param_groups:
                group["lr"] = self.job.plan.schedule(self.step) * self.slowdown * group["peak"]
            self.optimizer.step()
            self.masters.spread()
        self.optimizer.zero_grad()
        self.masters.clear()
        if not good:
            self._roll_back()
        return good

    def _roll_back(self) -> None:
        self._slow_down(2, NOT_FINITE, back=not self._finite())
        if self.rollbacks[NOT_FINITE] > MAX_ROLLBACKS:
            self.diverged = f"diverged at step {self.step}: loss or gradient not finite"

    def _slow_down(self, factor: float, why: str, *, back: bool = True) -> None:
        """Go on with a lower learning rate, `back` from the best state."""
        self.rollbacks[why] += 1
        self.slowdown /= factor
        if back:
            self._return_to_best()
            self.masters.refresh()
        self._optimizer()
        event = {"event": "rollback", "why": why, "slowdown": self.slowdown}
        self.history.append({"step": self.step, **event})

    def _finite(self) -> bool:
        return all(bool(torch.isfinite(p).all()) for p in self.masters.parameters)

    def _evaluate(self, loss: float) -> None:
        score, dev_loss, answers = self.dev.look()
        finite = math.isfinite(dev_loss) and self._finite()
        known = dev_loss if finite and self.dev.items else None
        means = {name: value / max(self.told_steps, 1) for name, value in self.told.items()}
        self.told, self.told_steps = Counter(), 0
        look = {"loss": loss, "dev_score": score, "dev_loss": known, **means}
        self.history.append({"step": self.step, **look})
        if self._collapsed(score, dev_loss):
            self._slow_down(4, HAS_COLLAPSED)
        elif finite and (score, -dev_loss) > self.best:
            self.best, self.best_answers = (score, -dev_loss), answers
            self.best_state = self.attached.state()
            self.best_heads = {k: copy.deepcopy(v.state_dict()) for k, v in self.heads.items()}
        if finite:
            self.reached = min(self.reached, dev_loss)

    def _collapsed(self, score: float, dev_loss: float) -> bool:
        """Return whether a rate that was good for a short run has proved too high for a long one.

        A reward has no zero to measure a loss from, and a model that grows too sure of its answers
        has a rising loss while its score still rises: neither is a collapse.
        """
        left = self.step < self.job.plan.steps
        can = left and self.rollbacks[HAS_COLLAPSED] < MAX_ROLLBACKS
        scaled = bool(self.dev.items) and "reward" not in self.job.objective.needs
        better = math.isfinite(dev_loss) and self.scored and score > self.best[0]
        good = 2 * self.reached + COLLAPSED
        if not self.scored:
            good = max(good, (self.first_loss or 0.0) / 2)
        return can and scaled and not better and not dev_loss <= good


def _heads(job: Job) -> dict[str, nn.Module]:
    """Return the objective's heads, drawn from the job's seed, trainable on the base's device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        heads = job.objective.modules(job.lm)
    return {name: head.to(job.lm.device).requires_grad_() for name, head in heads.items()}
