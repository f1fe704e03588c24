"""The one training loop: it knows deltas and objectives by their contracts alone.

AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101), linear warm-up and decay, clipping of the global
gradient norm, gradient accumulation over the trees of a step, and the best state by the task's own
metric on the dev rows kept. A step whose loss or gradient is not finite is never applied: the last
good state comes back and the learning rate is halved, at most `MAX_ROLLBACKS` times.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from savile.deltas.base import Attached
from savile.errors import DataError, Problem
from savile.lm.model import LM, Work
from savile.meter import Meter, Training, flops
from savile.metrics.base import Metric
from savile.objectives.base import Encoded, Objective, TrainingData
from savile.objectives.sft import trees
from savile.predict import predict
from savile.prompts.base import Frame
from savile.types import Example

MAX_ROLLBACKS: Final = 3


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how fast to train."""

    learning_rate: float
    """Peak learning rate."""
    examples: int
    """Example presentations (rows times passes)."""
    batch_size: int = 16
    """Examples of one optimizer step."""
    warmup: float = 0.06
    """Share of the steps over which the rate rises."""
    evaluations: int = 4
    """How often the dev rows are scored, the last step included."""
    max_grad_norm: float = 1.0
    weight_decay: float = 0.0
    tokens_per_tree: int = 4096
    """Most tokens of one forward pass; larger steps are accumulated."""

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return max(1, self.examples // self.batch_size)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step counted from 0: linear up, then linear down to 0."""
        rising = round(self.warmup * self.steps)
        if step < rising:
            return self.learning_rate * (step + 1) / (rising + 1)
        return self.learning_rate * (self.steps - step) / max(1, self.steps - rising)


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything one training needs; there is no test row in it, so none can leak."""

    lm: LM
    objective: Objective
    frame: Frame
    train: Sequence[Example]
    dev: Sequence[Example]
    metric: Metric
    plan: Plan
    seed: int
    max_new_tokens: int = 128


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
    examples: int
    steps: int
    tokens: int
    """Tokens as separate sequences, forward and backward."""
    flops: float
    seconds: float
    peak_bytes: int | None
    history: list[dict[str, Any]]


OnProgress = Callable[[Progress], None]


def train(job: Job, attached: Attached, *, on_progress: OnProgress | None = None) -> Trained:
    """Train what is attached and leave its best state by dev score in place."""
    loop = _Loop(job, attached, on_progress)
    kind = _kind(job.lm, attached)
    with Meter(job.lm) as meter:
        loop.run()
    return Trained(
        status="ok" if loop.diverged is None else "diverged",
        reason=loop.diverged,
        dev_score=loop.best[0] if loop.scored else None,
        dev_loss=-loop.best[1] if loop.scored else None,
        examples=loop.examples,
        steps=loop.step,
        tokens=loop.tokens,
        flops=flops(job.lm, loop.work, kind) + loop.evaluation_flops,
        seconds=meter.seconds,
        peak_bytes=meter.peak_bytes,
        history=loop.history,
    )


def encode(lm: LM, frame: Frame, examples: Sequence[Example]) -> list[Encoded]:
    """Return training rows as ids; rows shown as demonstrations are left out."""
    shown = {(example.input, example.output) for example in frame.demonstrations}
    return [
        Encoded(lm.encode_prompt(frame.messages(row)), lm.encode_completion(frame.target(row)))
        for row in examples
        if (row.input, row.output) not in shown
    ]


@torch.no_grad()
def mean_loss(lm: LM, rows: Sequence[Encoded], tokens_per_tree: int = 4096) -> float:
    """Return the mean negative log-likelihood of the answers' tokens."""
    total = 0.0
    for batch in trees(rows, tokens_per_tree):
        total -= batch.share * float(lm.logprobs(batch.tree).mean())
    return total


class _Loop:
    """The state of one training."""

    def __init__(self, job: Job, attached: Attached, on_progress: OnProgress | None) -> None:
        self.job, self.attached, self.on_progress = job, attached, on_progress
        self.rows = encode(job.lm, job.frame, job.train)
        if not job.dev:
            raise DataError(
                Problem(
                    what="there is no dev row to choose the best state by",
                    fix="Give data.dev, or a share of the rows (data.shares.dev).",
                )
            )
        if not self.rows:
            raise DataError(
                Problem(
                    what="no training row is left beside the demonstrations",
                    found=f"{len(job.train)} rows, {len(job.frame.demonstrations)} shown",
                    fix="Show fewer demonstrations or label more rows.",
                )
            )
        self.dev_rows = encode(job.lm, job.frame, job.dev)
        named = attached.parameters()
        self.masters = _Masters(list(named.values()))
        self.factors = [attached.rate_factor(name) for name in named]
        self.step = self.examples = self.tokens = 0
        self.work = Work()
        self.evaluation_flops = 0.0
        self.slowdown, self.rollbacks = 1.0, 0
        self.best: tuple[float, float] = (float("-inf"), float("-inf"))
        self.best_state = attached.state()
        self.history: list[dict[str, Any]] = []
        self.diverged: str | None = None
        self._optimizer()

    @property
    def scored(self) -> bool:
        """Whether some state had a finite loss on the dev rows."""
        return math.isfinite(self.best[1])

    def _optimizer(self) -> None:
        both = list(zip(self.factors, self.masters.tensors, strict=True))
        groups = [
            {"params": [tensor for own, tensor in both if own == factor], "factor": factor}
            for factor in sorted(set(self.factors))
        ]
        decay = self.job.plan.weight_decay
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, weight_decay=decay, fused=True)

    def run(self) -> None:
        plan, job = self.job.plan, self.job
        data = TrainingData(
            rows=self.rows, batch_size=plan.batch_size, tokens_per_tree=plan.tokens_per_tree
        )
        marks = {round(plan.steps * i / plan.evaluations) for i in range(1, plan.evaluations + 1)}
        for step in job.objective.batches(data, job.lm, random.Random(job.seed)):
            loss = self._gradients(step)
            if self._apply(loss):
                self.step += 1
                self.examples += sum(batch.examples for batch in step)
                if self.on_progress is not None:
                    done = plan.batch_size * plan.steps
                    self.on_progress(Progress(self.examples, done, loss))
                if self.step in marks:
                    self._evaluate(loss)
            if self.diverged is not None or self.step >= plan.steps:
                break
        if self.diverged is None and not self.scored:
            self.diverged = f"diverged by step {self.step}: the dev loss is not finite"
        self.attached.load(self.best_state)

    def _gradients(self, step: Sequence[Any]) -> float:
        """Accumulate the gradients of one optimizer step; return its loss."""
        lm, total = self.job.lm, 0.0
        before = (lm.work.tokens, lm.work.predictions)
        for batch in step:
            with lm.mixed_precision():
                loss, _ = self.job.objective.loss(lm, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            self.tokens += batch.tree.separate_tokens
        self.work.tokens += lm.work.tokens - before[0]
        self.work.predictions += lm.work.predictions - before[1]
        return total

    def _apply(self, loss: float) -> bool:
        """Take the step if loss and gradient are finite, else roll back."""
        self.masters.collect()
        norm = torch.nn.utils.clip_grad_norm_(self.masters.tensors, self.job.plan.max_grad_norm)
        good = bool(torch.isfinite(norm)) and math.isfinite(loss)
        if good:
            for group in self.optimizer.param_groups:
                group["lr"] = self.job.plan.rate(self.step) * self.slowdown * group["factor"]
            self.optimizer.step()
            self.masters.spread()
        self.optimizer.zero_grad()
        self.masters.clear()
        if not good:
            self._roll_back()
        return good

    def _roll_back(self) -> None:
        self.rollbacks += 1
        self.slowdown /= 2
        if not all(bool(torch.isfinite(p).all()) for p in self.attached.parameters().values()):
            self.attached.load(self.best_state)
            self.masters.refresh()
        self._optimizer()
        self.history.append({"step": self.step, "event": "rollback", "slowdown": self.slowdown})
        if self.rollbacks > MAX_ROLLBACKS:
            self.diverged = f"diverged at step {self.step}: loss or gradient not finite"

    def _evaluate(self, loss: float) -> None:
        job, lm = self.job, self.job.lm
        before = flops(lm, lm.work, "none")
        found = predict(lm, job.frame, job.dev, max_new_tokens=job.max_new_tokens)
        references = [example.accepted for example in job.dev]
        answers = [prediction.answer for prediction in found]
        score = job.metric.score(answers, references, job.frame.labels)
        dev_loss = mean_loss(lm, self.dev_rows, job.plan.tokens_per_tree)
        self.evaluation_flops += flops(lm, lm.work, "none") - before
        finite = math.isfinite(dev_loss)
        known = dev_loss if finite else None
        self.history.append(
            {"step": self.step, "loss": loss, "dev_score": score, "dev_loss": known}
        )
        if finite and (score, -dev_loss) > self.best:
            self.best = (score, -dev_loss)
            self.best_state = self.attached.state()


class _Masters:
    """Float32 copies of what trains in a shorter type; float32 parameters are their own masters."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = parameters
        self.tensors = [
            p if p.dtype == torch.float32 else p.detach().float().requires_grad_()
            for p in parameters
        ]

    def _pairs(self) -> list[tuple[Tensor, Tensor]]:
        both = zip(self.parameters, self.tensors, strict=True)
        return [(p, master) for p, master in both if p is not master]

    def collect(self) -> None:
        """Move gradients to the masters."""
        for p, master in self._pairs():
            master.grad = None if p.grad is None else p.grad.float()

    @torch.no_grad()
    def spread(self) -> None:
        """Write the masters back."""
        for p, master in self._pairs():
            p.copy_(master)

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over parameters that were set from outside."""
        for p, master in self._pairs():
            master.copy_(p)

    def clear(self) -> None:
        """Drop the gradients of the parameters."""
        for p in self.parameters:
            p.grad = None


def _kind(lm: LM, attached: Attached) -> Training:
    own = {id(p) for p in lm.model.parameters()}
    return "full" if any(id(p) in own for p in attached.parameters().values()) else "frozen"
