"""The peer: TRL's SFTTrainer over a PEFT LoRA model, as shipped or with options of `grid.py`.

The trainer is given token ids and labels, so that both sides train on the same tokens; its own
tokenization is not timed.
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

from case import Case
from grid import Option
from machine import Clock


class Timer(TrainerCallback):
    """Reads the clock from the start of training to the end of its last step; keeps the losses."""

    def __init__(self) -> None:
        """Start with nothing measured."""
        self.start = self.end = Clock.now()
        self.losses: list[float] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock: model, optimizer and data loader are ready."""
        self.start = Clock.now()
        self.losses = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Read the clock."""
        self.end = Clock.now()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the logged losses."""
        logs = kwargs["logs"]
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))


class Peer:
    """One trainer that can run the case again and again."""

    def __init__(self, case: Case, option: Option, *, log_every: int = 100) -> None:
        """Build model, data set and trainer; none of this is timed."""
        disable_progress_bars()
        model = AutoModelForCausalLM.from_pretrained(
            case.model, dtype=getattr(torch, option.dtype), attn_implementation=option.attention
        )
        self.timer = Timer()
        self.folder = tempfile.TemporaryDirectory()
        settings = {
            "output_dir": self.folder.name,
            "per_device_train_batch_size": case.batch_size,
            "num_train_epochs": 1,
            "learning_rate": case.learning_rate,
            "lr_scheduler_type": "constant",
            "train_sampling_strategy": "sequential",
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
            "logging_steps": log_every,
            "logging_nan_inf_filter": False,
            **option.settings,
        }
        self.trainer: Any = SFTTrainer(
            model=model,
            args=SFTConfig(**settings),
            train_dataset=Dataset.from_list(
                [_features(r.prompt, r.completion) for r in case.peer_rows]
            ),
            processing_class=AutoTokenizer.from_pretrained(case.model),
            peft_config=LoraConfig(
                r=case.rank,
                lora_alpha=2 * case.rank,
                lora_dropout=0.0,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
            callbacks=[self.timer],
        )

    def run(self) -> tuple[Clock, list[float]]:
        """Train one pass over the rows; return what it took and the logged losses."""
        self.trainer.train()
        return self.timer.end.since(self.timer.start), self.timer.losses


def _features(prompt: list[int], completion: list[int]) -> dict[str, list[int]]:
    return {"input_ids": prompt + completion, "labels": [-100] * len(prompt) + completion}
