"""Our side: Savile's own training loop, deltas and objectives, called as the ladder calls them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import texts
from case import Case, Row, write_model
from jobs import BETA, EPSILON, GROUP, RANK, VIRTUAL_TOKENS
from machine import Clock
from reward import variety
from savile.deltas.base import Attached, Delta
from savile.deltas.full import Full
from savile.deltas.lora import LoRA
from savile.deltas.p_tuning import PTuning
from savile.deltas.prefix_tuning import PrefixTuning
from savile.deltas.prompt_tuning import PromptTuning
from savile.job import Job, Plan, training_data
from savile.lm.load import load
from savile.lm.model import LM
from savile.metrics.exact_match import ExactMatch
from savile.objectives.base import Batch, Encoded, Objective, Reward, Written, drawn
from savile.objectives.dpo import DPO
from savile.objectives.grpo import GRPO
from savile.objectives.reward import RewardModel
from savile.objectives.sft import SFT
from savile.prompts.base import Frame
from savile.train import carrying, train
from savile.types import Example, Message, Preference

SEED = 0
DELTAS: dict[str, Delta] = {
    "lora": LoRA(r=RANK),
    "full": Full(),
    "prompt_tuning": PromptTuning(num_virtual_tokens=VIRTUAL_TOKENS),
    "p_tuning": PTuning(num_virtual_tokens=VIRTUAL_TOKENS),
    "prefix_tuning": PrefixTuning(num_virtual_tokens=VIRTUAL_TOKENS),
}
OBJECTIVES: dict[str, Objective] = {
    "sft": SFT(),
    "dpo": DPO(),
    "reward": RewardModel(),
    "grpo": GRPO(num_generations=GROUP, beta=BETA, epsilon=EPSILON),
}
SCORED: frozenset[str] = frozenset({"reward"})
"""Objectives that do without the vocabulary: their own head has one output."""
LONGEST = 1024
"""Tokens of a sequence that TRL's trainers keep by default."""
PASSES = {"full": 3}
"""Products with each weight of the trunk: forward and the input's gradient, and with nothing frozen
the weight's own gradient."""
REFERENCE = {"dpo": 1, "grpo": 3}
"""Further forward passes of an objective: what it writes, and what it reads of that."""


def prepare(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Write model, `gate.json` and `case.json`; return what a pass consists of.

    Args:
        folder: where.
        request: `shape`; `texts` and `data`, from which the tokenizer learns; `instruction` and
            `sample`, the rows of both cases; `learning_rate`, `delta`, `objective`, `group`,
            `written`; `gate` and `pass`, each the batch size and the number of steps.
    """
    corpus = texts.read(request["texts"], Path(request["data"]))
    words = (" ".join(part for part in text if part) for text in corpus)
    write_model(folder / "model", request["shape"], (request["instruction"], *words))
    lm = load(str(folder / "model"), folder=folder, device="cpu", dtype="float32")
    rows = [row(lm, request["instruction"], texts.Text(*text)) for text in request["sample"]]
    assert max(row.longest for row in rows) <= LONGEST, "TRL would cut a row by itself"
    for name in ("gate", "pass"):
        batch_size, steps = request[name]
        case = Case(
            model=str(folder / "model"),
            instruction=request["instruction"],
            rows=rows[: batch_size * steps // request["group"]],
            batch_size=batch_size,
            learning_rate=request["learning_rate"],
            delta=request["delta"],
            objective=request["objective"],
            group=request["group"],
            written=request["written"],
        )
        if not case.written:
            case = replace(case, peer_order=order(case))
        case.save(folder / f"{name}.json")
    columns = zip(*(row.prompt for row in case.rows), strict=False)
    shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    return {"tokens": case.tokens, "shared_tokens": shared, **Ours(case).work()}


def row(lm: LM, instruction: str, text: texts.Text) -> Row:
    """Return one row with the token ids that our template gives it."""
    chat = [
        Message(role="system", content=instruction),
        Message(role="user", content=text.question),
    ]
    return Row(
        question=text.question,
        answer=text.answer,
        rejected=text.rejected,
        prompt=lm.encode_prompt(chat),
        completion=lm.encode_completion(text.answer),
        other=[] if text.rejected is None else lm.encode_completion(text.rejected),
    )


def order(case: Case) -> list[int]:
    """Return row numbers in the order in which the loop draws them."""
    n = len(case.rows)
    steps = drawn(range(n), case.batch_size, random.Random(SEED))
    return [number for step in islice(steps, n // case.batch_size) for number in step]


class Ours:
    """One base with a delta attached that can train on the case again and again."""

    def __init__(self, case: Case, *, dtype: str = "auto") -> None:
        """Load the base and attach; none of this is timed."""
        self.case = case
        self.lm = load(case.model, folder=Path(case.model).parent, device="cpu", dtype=dtype)
        self.attached: Attached = DELTAS[case.delta].attach(self.lm, SEED)
        self.start = self.attached.state()
        self.objective = OBJECTIVES[case.objective]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)  # as the loop draws them
            self.heads = self.objective.modules(self.lm)
        self.written = 0
        """Tokens that the policy wrote in the last pass."""
        self.examples = [
            Example(id=str(number), input=row.question, output=row.answer)
            for number, row in enumerate(case.rows)
        ]
        self.preferences = [
            Preference(
                id=str(number),
                input=row.question,
                chosen=row.answer,
                rejected=row.rejected,
                source="",
            )
            for number, row in enumerate(case.rows)
            if row.rejected is not None
        ]

    def run(self, steps: int | None = None) -> tuple[Clock, list[float]]:
        """Train one pass or some steps, tokenization included; return what it took and the
        losses."""
        self.attached.load(self.start)
        losses: list[float] = []
        self.written = 0
        job = self._job(steps)
        start = Clock.now()
        train(job, self.attached, on_progress=lambda progress: losses.append(progress.loss))
        return Clock.now().since(start), losses

    @property
    def tokens(self) -> int:
        """Real tokens of the last pass."""
        return self.case.counted(self.written)

    def first_step(self, state: dict[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
        """Return loss and gradient of the first step from a given state; a reference is the state
        that training starts from."""
        self.attached.load(self.start)
        batches = next(self.steps())
        self.attached.load({name: state[name] for name in self.start})
        total = 0.0
        with carrying(self.lm, self.heads):
            for batch in batches:
                loss, _ = self.objective.loss(self.lm, batch)
                loss.backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach())
        gradients = {}
        for name, parameter in (self.attached.parameters() | self.head_parameters()).items():
            assert parameter.grad is not None, name
            gradients[name], parameter.grad = parameter.grad, None
        return total, gradients

    def head_parameters(self) -> dict[str, Tensor]:
        """Return what the objective trains beside the delta, as the loop draws it."""
        return {
            f"{head}.{name}": parameter
            for head, module in self.heads.items()
            for name, parameter in module.named_parameters()
        }

    def whole_start(self) -> dict[str, Tensor]:
        """Return the state that training starts from, heads included."""
        return {**self.start, **{n: p.detach() for n, p in self.head_parameters().items()}}

    def random_state(self) -> dict[str, Tensor]:
        """Return a state in which no tensor of the delta is zero, so that no gradient is."""
        rng = torch.Generator().manual_seed(1)
        return self.whole_start() | {
            name: tensor if tensor.any() else 0.02 * torch.randn(tensor.shape, generator=rng)
            for name, tensor in self.start.items()
        }

    def work(self) -> dict[str, Any]:
        """Return the tokens of a pass's trees and the FLOP that they cannot do without: 4 N a token
        and 4 V D a predicting position beside a frozen base, 6 of each for all of it."""
        batches = [batch for step in self.steps() for batch in step]
        tokens = sum(len(batch.tree) for batch in batches)
        asked = [] if self.case.objective in SCORED else batches
        predicting = sum(len(np.unique(batch.tree.targets.source)) for batch in asked)
        products = PASSES.get(self.case.delta, 2) + REFERENCE.get(self.case.objective, 0)
        weights = self.lm.trunk_parameters * tokens + self.lm.head_parameters * predicting
        return {
            "tree_tokens": tokens,
            "predicting": predicting,
            "trunk_parameters": self.lm.trunk_parameters,
            "head_parameters": self.lm.head_parameters,
            "useful_flop": 2.0 * products * weights,
        }

    def _job(self, steps: int | None = None) -> Job:
        case = self.case
        return Job(
            lm=self.lm,
            objective=self.objective,
            frame=Frame(instruction=case.instruction),
            train=self.examples,
            dev=self.examples[:1],  # the loop wants one; without evaluations it is not scored
            preferences=self.preferences,
            dev_preferences=self.preferences[:1],
            metric=ExactMatch(),
            plan=Plan(
                learning_rate=case.learning_rate,
                examples=len(case.rows) * case.group if steps is None else steps * case.batch_size,
                batch_size=case.batch_size,
                warmup=0.0,
                evaluations=0,
            ),
            seed=SEED,
            max_new_tokens=case.written,
            reward=self._reward,
        )

    def _reward(self, rows: Sequence[Encoded], examples: Sequence[Example]) -> Reward:
        """Return what judges answers, and counts their tokens."""

        def judge(answers: Sequence[Written]) -> list[float]:
            self.written += sum(len(one.answer) for one in answers)
            return variety([one.answer for one in answers])

        return judge

    def steps(self) -> Iterator[Sequence[Batch]]:
        """Yield the trees of every step of a pass; the policy stands still while they are drawn."""
        job = self._job()
        data = training_data(job, job.train, job.preferences, lambda: self.attached.at(self.start))
        items = self.objective.items(self.lm, data)
        drawn_steps = self.objective.batches(self.lm, data, items, random.Random(SEED))
        yield from islice(drawn_steps, job.plan.steps)
