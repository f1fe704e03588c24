"""What a technique adds to the memory in use: counted on a few rows, grown to whole trees.

    need = optimizer + states kept + SCATTER x max(a step's largest tree, answering)

Forward and backward pass of two and of four rows of the upper quarter are counted operation by
operation (`lm/live.py`); what grows between them grows with the tokens of a tree. The gradients of
what trains are there when a step has several trees, or when nothing else is any more. Answers are
counted likewise when they are begun; the keys and values of what they write are added.

Cost: six rows forward and back and six answers begun, once for a technique.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, NamedTuple, TypeVar

import torch
from torch import Tensor

from savile.deltas.base import Attached
from savile.job import Job, compared, encode
from savile.lm import live
from savile.lm.generate import rows_of_trees
from savile.lm.local import Local
from savile.lm.model import LM
from savile.lm.packing import own_tokens, shared_tokens
from savile.lm.tree import Paths, build
from savile.objectives.base import Objective, drawn
from savile.predict import asked_of, predict
from savile.prompts.base import Frame
from savile.types import Example

T = TypeVar("T")
SCATTER: Final = 1.6
"""What a process takes for a byte of tensors: operations' own buffers, gaps between blocks
(`bench/memory_estimates.py`)."""
FLOAT: Final = 4
"""Bytes of a float32."""
STEPS: Final = 64
"""Optimizer steps of which the largest is looked for."""
FEW: Final = 2
MORE: Final = 4
"""Rows that are counted: what grows is the difference."""
BEGUN: Final = 2
"""Tokens of the answers that are begun."""


class Growing(NamedTuple):
    """Bytes that grow with tokens."""

    fixed: float
    per_token: float

    def at(self, tokens: int) -> float:
        """Return the bytes of so many tokens."""
        return self.fixed + self.per_token * tokens


NOTHING: Final = Growing(0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a technique adds to the memory in use, in bytes."""

    kept: int = 0
    """Optimizer and states of a training."""
    gradients: int = 0
    step: Growing = NOTHING
    """Of one tree, forward and back, without the gradients of what trains."""
    reading: Growing = NOTHING
    """Of one tree, forward alone: dev rows, a reference."""
    stem: int = 0
    """Tokens that all prompts begin with: once in a tree."""
    sizes: Sequence[int] = ()
    """Tokens that every item adds to a tree."""
    batch_size: int = 1
    answering: float = 0.0

    def at(self, tokens_per_tree: int) -> int:
        """Return the bytes with trees of so many tokens."""
        largest, divided = self._largest(tokens_per_tree)
        tree = self.step.at(largest) + (self.gradients if divided else 0)
        one = self.stem + max(self.sizes, default=0)
        read = max(one, min(tokens_per_tree, self.stem + sum(self.sizes)))
        alone = self.step.fixed + self.gradients
        return int(self.kept + SCATTER * max(tree, alone, self.reading.at(read), self.answering))

    def _largest(self, tokens_per_tree: int) -> tuple[int, bool]:
        """Return the tokens of the largest tree that steps will have, and whether a step has
        several trees."""
        if not self.sizes:
            return 0, False
        largest = max(self.stem + max(self.sizes), min(tokens_per_tree, self._whole))
        return largest, self._whole > tokens_per_tree

    @cached_property
    def _whole(self) -> int:
        """Tokens of the largest of some steps, in one tree."""
        steps = drawn(self.sizes, self.batch_size, random.Random(0))
        return self.stem + max(sum(next(steps)) for _ in range(STEPS))


Known = dict[tuple[str, bool], Needs]
"""By technique and whether layers are computed twice."""


def of_training(
    job: Job, objectives: Sequence[Objective], attached: Attached, *, twice: bool
) -> Needs:
    """Return what a training needs: of the objective whose trees need most.

    Args:
        job: the training.
        objectives: trained in turn.
        attached: what is trained, on the base.
        twice: whether layers are computed twice.
    """
    lm, parameters = job.lm, list(attached.parameters().values())
    trained = sum(p.numel() for p in parameters)
    stored = sum(p.numel() * p.element_size() for p in parameters)
    short = sum(p.numel() for p in parameters if p.element_size() < FLOAT)
    states = 1 + any(o.uses_reference for o in objectives) + max(o.copies for o in objectives)
    kept = 2 * FLOAT * trained + 2 * FLOAT * short + states * stored
    answers = of_answering(lm, job.frame, job.dev, job.max_new_tokens)
    found = []
    for items in _items(job, objectives):
        stem = shared_tokens(items)
        items.sort(key=lambda item, stem=stem: own_tokens(item, stem))  # type: ignore[misc]
        found.append(
            Needs(
                kept=kept,
                gradients=stored,
                step=_step(lm, items, parameters, twice=twice),
                reading=_reading(lm, items),
                stem=stem,
                sizes=[own_tokens(item, stem) for item in items],
                batch_size=job.plan.batch_size,
                answering=answers,
            )
        )
    whole = job.plan.tokens_per_tree
    return max(found, key=lambda needs: needs.at(whole), default=Needs(kept=kept))


def _items(job: Job, objectives: Sequence[Objective]) -> Iterator[list[Paths]]:
    """Yield what objectives put into trees: rows, judged answers, answers of full length."""
    needs = {need for objective in objectives for need in objective.needs}
    if {"preferences", "feedback"} & needs:
        pairs = compared(job.lm, job.frame, job.preferences)
        both = [(row.prompt, [a for a in row[1:] if a is not None]) for row in pairs]
        yield [Paths(prompt, answers) for prompt, answers in both if answers]
    if "pairs" in needs:
        rows = encode(job.lm, job.frame, job.train)
        if "reward" in needs:
            size = len(job.lm.sites.embedding_weight)
            written = [(7 * n + 3) % size for n in range(job.max_new_tokens)]
            yield [Paths(row.prompt, [written]) for row in rows]
        yield [Paths(row.prompt, [row.completion]) for row in rows if row.completion]


def _tokens(items: Sequence[Paths]) -> int:
    stem = shared_tokens(items)
    return stem + sum(own_tokens(item, stem) for item in items)


def _step(lm: LM, items: Sequence[Paths], parameters: Sequence[Tensor], *, twice: bool) -> Growing:
    """Count a forward and a backward pass over items of the upper quarter, from short to long."""

    def drop(parameter: Tensor) -> None:
        parameter.grad = None

    def run(some: Sequence[Paths]) -> int:
        def work() -> None:
            with lm.mixed_precision():
                loss = lm.logprobs(build(some)).mean()
            loss.backward()  # type: ignore[no-untyped-call]

        return live.held_by(work)

    before = replace(lm.work)
    handles = [
        p.register_post_accumulate_grad_hook(drop)  # type: ignore[no-untyped-call]
        for p in parameters
    ]
    try:
        with live.checkpointed(lm) if twice else nullcontext():
            return _grown([(run(some), _tokens(some)) for some in _samples(items)])
    finally:
        for handle in handles:
            handle.remove()
        lm.work = before


@torch.no_grad()
def _reading(lm: LM, items: Sequence[Paths]) -> Growing:
    """Count a forward pass over the same items."""
    before, counted = replace(lm.work), []
    for some in _samples(items):
        held = live.held_by(lambda some=some: lm.logprobs(build(some)))  # type: ignore[misc]
        counted.append((held, _tokens(some)))
    lm.work = before
    return _grown(counted)


def of_answering(lm: LM, frame: Frame, rows: Sequence[Example], limit: int) -> float:
    """Return the bytes that answering rows holds: of the tree of prompts that has most tokens."""
    asked = asked_of(frame, min(limit, BEGUN))
    prompts = [lm.encode_prompt(frame.messages(row)) for row in rows]
    if not prompts:
        return 0.0
    order = sorted(range(len(rows)), key=lambda row: len(prompts[row]))
    before = replace(lm.work)
    counted = []
    for some in _samples(order):
        own = [rows[row] for row in some]
        held = live.held_by(lambda own=own: predict(Local(lm), frame, own, max_new_tokens=BEGUN))  # type: ignore[misc]
        counted.append((held, sum(len(prompts[row]) for row in some)))
    packs = list(rows_of_trees(prompts, asked.n))
    tokens = max(sum(len(prompts[row]) for row in pack) for pack in packs)
    slots = 0 if asked.labels else asked.n * max(map(len, packs)) * limit
    written = slots * slot_bytes(lm) if slots else 0
    lm.work = before
    return _grown(counted).at(tokens) + written


@torch.no_grad()
def slot_bytes(lm: LM) -> int:
    """Return the bytes that generation holds of one written token: what attention keeps of any one
    token, since a config tells neither every family's width of a head nor how often one is held."""
    tree = build([Paths([0], [])])
    layout = lm.plan(tree)
    layout.keep = {}
    lm.logits(tree, tree.ends, layout)
    kept = [part for layer in layout.keep.values() for part in layer]
    return sum(part[:, -1].numel() * part.element_size() for part in kept)


def _samples(items: Sequence[T]) -> list[Sequence[T]]:
    """Return few and more neighbors around the upper quarter."""
    starts = [max(0, min(3 * len(items) // 4, len(items)) - n // 2) for n in (FEW, MORE)]
    return [items[at : at + n] for at, n in zip(starts, (FEW, MORE), strict=True)]


def _grown(counted: Sequence[tuple[int, int]]) -> Growing:
    """Return the line through two counts of (bytes, tokens); through the origin where they do not
    grow, as of one item."""
    (few, tokens), (more, more_tokens) = counted
    if more_tokens <= tokens or more <= few:
        return Growing(0.0, more / max(more_tokens, 1))
    slope = (more - few) / (more_tokens - tokens)
    return Growing(max(0.0, more - slope * more_tokens), slope)
