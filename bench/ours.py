"""Our side: Savile's own training loop, LoRA and SFT, called as the ladder calls them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from case import Case, Row, instruction, sample, write_model
from machine import Clock
from savile.deltas.base import Attached
from savile.deltas.lora import LoRA
from savile.job import Job, Plan, encode
from savile.lm.load import load
from savile.lm.model import LM
from savile.lm.tree import Tree
from savile.metrics.exact_match import ExactMatch
from savile.objectives.base import Batch, TrainingData
from savile.objectives.sft import SFT
from savile.prompts.base import Frame
from savile.train import train
from savile.types import Example, Message

SEED = 0


def row(lm: LM, instruction: str, text: str, label: str) -> Row:
    """Return one row with the token ids that our template gives it."""
    chat = [Message(role="system", content=instruction), Message(role="user", content=text)]
    return Row(
        text=text,
        label=label,
        prompt=lm.encode_prompt(chat),
        completion=lm.encode_completion(label),
    )


def prepare(folder: Path, setup: dict[str, Any], pairs: list[tuple[str, str]]) -> dict[str, int]:
    """Write model, `gate.json` and `case.json`; return how many tokens a pass has."""
    write_model(folder / "model", setup["shape"], pairs)
    lm = load(str(folder / "model"), folder=folder, device="cpu", dtype="float32")
    words = instruction(setup["case"], pairs)
    chosen = sample(pairs, max(setup["rows"], setup["gate_rows"]), seed=0)
    case = Case(
        model=str(folder / "model"),
        instruction=words,
        rows=[row(lm, words, text, label) for text, label in chosen],
        batch_size=setup["batch_size"],
        learning_rate=setup["learning_rate"],
        rank=setup["rank"],
    )
    replace(case, rows=case.rows[: setup["gate_rows"]]).save(folder / "gate.json")
    timed = replace(case, rows=case.rows[: setup["rows"]])
    replace(timed, peer_order=Ours(timed).order()).save(folder / "case.json")
    return {"tokens": timed.tokens}


class Ours:
    """One base with LoRA attached that can train on the case again and again."""

    def __init__(self, case: Case, *, dtype: str = "auto") -> None:
        """Load the base and attach; none of this is timed."""
        self.case = case
        self.lm = load(case.model, folder=Path(case.model).parent, device="cpu", dtype=dtype)
        self.attached: Attached = LoRA(r=case.rank).attach(self.lm, SEED)
        self.start = self.attached.state()
        self.objective = SFT()
        self.frame = Frame(instruction=case.instruction)
        self.examples = [
            Example(id=str(number), input=row.text, output=row.label)
            for number, row in enumerate(case.rows)
        ]
        self.plan = Plan(
            learning_rate=case.learning_rate,
            examples=len(case.rows),
            batch_size=case.batch_size,
            warmup=0.0,
            evaluations=0,
        )

    def run(self) -> tuple[Clock, list[float]]:
        """Train one pass, tokenization included; return what it took and the losses."""
        self.attached.load(self.start)
        losses: list[float] = []
        job = Job(
            lm=self.lm,
            objective=self.objective,
            frame=self.frame,
            train=self.examples,
            dev=self.examples[:1],  # the loop wants one; without evaluations it is not scored
            metric=ExactMatch(),
            plan=self.plan,
            seed=SEED,
        )
        start = Clock.now()
        train(job, self.attached, on_progress=lambda progress: losses.append(progress.loss))
        return Clock.now().since(start), losses

    def first_step(self, state: dict[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
        """Return loss and gradient of the first step from a given state."""
        self.attached.load(state)
        total = 0.0
        for batch in next(self._steps()):
            loss, _ = self.objective.loss(self.lm, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        gradients = {}
        for name, parameter in self.attached.parameters().items():
            assert parameter.grad is not None, name
            gradients[name], parameter.grad = parameter.grad, None
        return total, gradients

    def random_state(self) -> dict[str, Tensor]:
        """Return a state in which no factor is zero, so that no gradient is."""
        rng = torch.Generator().manual_seed(1)
        return {
            name: tensor if tensor.any() else 0.02 * torch.randn(tensor.shape, generator=rng)
            for name, tensor in self.start.items()
        }

    def order(self) -> list[int]:
        """Return row numbers in the order of our batches, read from the trees' tokens."""
        known = {(*r.prompt, -1, *r.completion): number for number, r in enumerate(self.case.rows)}
        steps, found = self._steps(), []
        for _ in range(self.plan.steps):
            found += [
                known[sequence] for batch in next(steps) for sequence in sequences(batch.tree)
            ]
        assert sorted(found) == list(range(len(self.case.rows)))
        return found

    def _steps(self) -> Iterator[Sequence[Batch]]:
        data = TrainingData(
            rows=encode(self.lm, self.frame, self.examples),
            batch_size=self.plan.batch_size,
            tokens_per_tree=self.plan.tokens_per_tree,
        )
        return self.objective.batches(data, self.lm, random.Random(SEED))


def sequences(tree: Tree) -> list[tuple[int, ...]]:
    """Return (prompt, -1, completion) of every sequence of a tree, from its nodes and targets."""
    found = []
    for number in range(tree.sequences):
        rows = np.flatnonzero(tree.targets.sequence == number)
        prompt = tree.tokens[tree.path(int(tree.targets.source[rows[0]]))]
        found.append((*prompt.tolist(), -1, *tree.targets.token[rows].tolist()))
    return found
