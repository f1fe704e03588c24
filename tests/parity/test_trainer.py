"""Full fine-tuning follows transformers' Trainer: the same losses, step by step."""

from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from savile.deltas.full import Full
from savile.job import Job, Plan, encode
from savile.lm.model import LM
from savile.metrics.exact_match import ExactMatch
from savile.objectives.base import Encoded
from savile.objectives.sft import SFT
from savile.prompts.base import Frame
from savile.train import train
from savile.types import Example
from tests import tiny
from tests.gates import Gate

STEPS, SIZE, RATE = 32, 4, 2e-3
ROWS = [
    Example(id=str(i), input=f"what is {i}", output=("one " * (1 + i % 3)).strip())
    for i in range(STEPS * SIZE)
]


class _Rows(Dataset[dict[str, torch.Tensor]]):
    """Right-padded rows with masked prompts, in a fixed order."""

    def __init__(self, rows: list[Encoded]) -> None:
        self.rows = rows
        self.longest = max(len(r.prompt) + len(r.completion) for r in rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        row = self.rows[index]
        ids = [*row.prompt, *row.completion]
        space = self.longest - len(ids)
        labels = [-100] * len(row.prompt) + row.completion + [-100] * space
        return {
            "input_ids": torch.tensor(ids + [0] * space),
            "attention_mask": torch.tensor([1] * len(ids) + [0] * space),
            "labels": torch.tensor(labels),
        }


class _InOrder(Trainer):
    """transformers' Trainer that does not shuffle."""

    def _get_train_sampler(self, train_dataset: object = None) -> torch.utils.data.Sampler[int]:
        return torch.utils.data.SequentialSampler(self.train_dataset)


class _Ordered(SFT):  # type: ignore[misc]
    """SFT without shuffling."""

    def batches(self, lm, data, items, rng):  # type: ignore[no-untyped-def]
        rng.sample = lambda rows, n: list(rows)[::-1]
        return super().batches(lm, data, items, rng)


def our_losses(accumulate: bool) -> list[float]:
    lm = tiny.lm("llama")
    losses: list[float] = []
    job = Job(
        lm=lm,
        objective=_Ordered(),
        frame=Frame(),
        train=ROWS,
        dev=ROWS[:2],
        metric=ExactMatch(),
        plan=Plan(
            learning_rate=RATE,
            examples=STEPS * SIZE,
            batch_size=SIZE,
            warmup=0.0,
            evaluations=1,
            tokens_per_tree=64 if accumulate else 4096,
        ),
        seed=0,
        max_new_tokens=1,
    )
    with Full().attach(lm, 0) as attached:
        train(job, attached, on_progress=lambda p: losses.append(p.loss))
    return losses


@pytest.fixture(scope="module")
def their_losses(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    out: Path = tmp_path_factory.mktemp("trainer")
    lm: LM = tiny.lm("llama")
    rows = encode(lm, Frame(), ROWS)
    lm.model.set_attn_implementation("sdpa")
    lm.model.requires_grad_(True)
    arguments = TrainingArguments(
        output_dir=str(out),
        per_device_train_batch_size=SIZE,
        max_steps=STEPS,
        learning_rate=RATE,
        lr_scheduler_type="linear",
        weight_decay=0.0,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        seed=0,
    )
    trainer = _InOrder(model=lm.model, args=arguments, train_dataset=_Rows(rows))
    trainer.train()
    return [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("accumulate", [False, True])
def test_losses_equal_the_trainers(their_losses: list[float], accumulate: bool, gate: Gate) -> None:
    ours = our_losses(accumulate)
    assert len(ours) == len(their_losses) == STEPS
    assert ours[-1] < 0.8 * ours[0]
    worst = max(abs(a - b) for a, b in zip(ours, their_losses, strict=True))
    assert worst <= 1e-3
    for name in ("full", "sft"):
        gate(name, "parity", worst, f"Trainer, losses of {STEPS} steps")
