"""The peer: a trainer of TRL or of transformers, over PEFT where the base is frozen, as shipped or
with options of `grid.py`.

The trainers are given our token ids, so that both sides train on the same tokens; their own
tokenization is not timed. DPO's reference log-probabilities are, where they are computed before
training.
"""

from __future__ import annotations

import functools
import tempfile
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from peft import (
    LoraConfig,
    PeftConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from trl import (
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)

from case import Case, Row
from grid import Option
from jobs import BETA, EPSILON, RANK, VIRTUAL_TOKENS
from machine import Clock
from reward import variety

REFERENCE = ["ref_chosen_logps", "ref_rejected_logps"]


def peft_config(delta: str, task: Any = "CAUSAL_LM") -> PeftConfig | None:
    """Return PEFT's configuration of a delta; None where every weight trains.

    Args:
        delta: a name of `ours.DELTAS`.
        task: PEFT's name of the task; `SEQ_CLS` trains the head of a classifier too.
    """
    soft: dict[str, Any] = {"task_type": task, "num_virtual_tokens": VIRTUAL_TOKENS}
    configs: dict[str, PeftConfig | None] = {
        "lora": LoraConfig(
            r=RANK,
            lora_alpha=2 * RANK,
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type=task,
        ),
        "full": None,
        "prompt_tuning": PromptTuningConfig(**soft),
        "p_tuning": PromptEncoderConfig(**soft, encoder_reparameterization_type="LSTM"),
        "prefix_tuning": PrefixTuningConfig(**soft),
    }
    return configs[delta]


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
        self.case = case
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
        model = MODELS.get(option.trainer, AutoModelForCausalLM.from_pretrained)(
            case.model, dtype=getattr(torch, option.dtype), attn_implementation=option.attention
        )
        self.trainer: Any = TRAINERS[option.trainer](model, case, settings)
        self.trainer.add_callback(self.timer)

    def run(self, steps: int | None = None) -> tuple[Clock, list[float]]:
        """Train one pass over the rows or some steps; return what it took and the logged losses."""
        self.trainer.args.max_steps = steps or -1
        start = Clock.now()
        self._refer()
        before = Clock.now().since(start)
        self.trainer.train()
        trained = self.timer.end.since(self.timer.start)
        clock = Clock(before.cpu + trained.cpu, before.wall + trained.wall)
        return clock, self.timer.losses

    @property
    def tokens(self) -> int:
        """Real tokens of the last pass; of written ones the trainer keeps count."""
        counted: int = self.trainer.state.num_input_tokens_seen
        return counted if self.case.written else self.case.tokens

    def _refer(self) -> None:
        """Compute the reference's log-probabilities again, as every new training does first."""
        trainer = self.trainer
        if REFERENCE[0] in trainer.train_dataset.column_names:
            rows = trainer.train_dataset.remove_columns(REFERENCE)
            size = trainer.args.per_device_train_batch_size
            trainer.train_dataset = trainer._precompute_ref_logps(rows, "train", size)


def _sft(model: PreTrainedModel, case: Case, settings: dict[str, Any]) -> SFTTrainer:
    return SFTTrainer(
        model=model,
        args=SFTConfig(**settings),
        train_dataset=_rows(case),
        processing_class=AutoTokenizer.from_pretrained(case.model),
        peft_config=peft_config(case.delta),
    )


def _plain(model: PreTrainedModel, case: Case, settings: dict[str, Any]) -> Trainer:
    config = peft_config(case.delta)
    tokenizer = AutoTokenizer.from_pretrained(case.model)
    return Trainer(
        model=model if config is None else get_peft_model(model, config),
        args=TrainingArguments(**settings),
        train_dataset=_rows(case),
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        processing_class=tokenizer,
    )


def _dpo(model: PreTrainedModel, case: Case, settings: dict[str, Any]) -> DPOTrainer:
    trainer = DPOTrainer(
        model=model,
        args=DPOConfig(**settings),
        train_dataset=Dataset.from_list([_dialogue(case, row) for row in case.peer_rows]),
        processing_class=AutoTokenizer.from_pretrained(case.model),
        peft_config=peft_config(case.delta),
    )
    columns = ("prompt_ids", "chosen_ids", "rejected_ids")
    found = [tuple(row[name] for name in columns) for row in trainer.train_dataset]
    assert found == [(row.prompt, row.completion, row.other) for row in case.peer_rows]
    return trainer


def _reward(model: PreTrainedModel, case: Case, settings: dict[str, Any]) -> RewardTrainer:
    return RewardTrainer(
        model=model,
        args=RewardConfig(**settings),
        train_dataset=Dataset.from_list(
            [
                {"chosen_ids": row.prompt + row.completion, "rejected_ids": row.prompt + row.other}
                for row in case.peer_rows
            ]
        ),
        processing_class=AutoTokenizer.from_pretrained(case.model),
        peft_config=peft_config(case.delta, "SEQ_CLS"),
    )


def _grpo(model: PreTrainedModel, case: Case, settings: dict[str, Any]) -> GRPOTrainer:
    formula = {
        "beta": BETA,
        "epsilon": EPSILON,
        "loss_type": "grpo",
        "scale_rewards": "group",
        "use_bias_correction_kl": False,
    }
    sizes = {"num_generations": case.group, "max_completion_length": case.written}
    return GRPOTrainer(
        model=model,
        reward_funcs=_worth,
        args=GRPOConfig(**formula, **sizes, shuffle_dataset=False, **settings),
        train_dataset=Dataset.from_list([{"prompt": _asked(case, row)} for row in case.peer_rows]),
        processing_class=AutoTokenizer.from_pretrained(case.model),
        peft_config=peft_config(case.delta),
    )


def _worth(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return variety(completion_ids)


TRAINERS = {"sft": _sft, "dpo": _dpo, "plain": _plain, "reward": _reward, "grpo": _grpo}
MODELS: dict[str, Any] = {
    "reward": functools.partial(AutoModelForSequenceClassification.from_pretrained, num_labels=1)
}
"""What loads the base of a trainer that is not given a language model."""


def _rows(case: Case) -> Dataset:
    """Return token ids with labels at the answers."""
    return Dataset.from_list(
        [
            {
                "input_ids": row.prompt + row.completion,
                "labels": [-100] * len(row.prompt) + row.completion,
            }
            for row in case.peer_rows
        ]
    )


def _asked(case: Case, row: Row) -> list[dict[str, str]]:
    """Return what stands before an answer."""
    return [
        {"role": "system", "content": case.instruction},
        {"role": "user", "content": row.question},
    ]


def _dialogue(case: Case, row: Row) -> dict[str, list[dict[str, str]]]:
    """Return a pair as DPOTrainer wants it: it takes words alone, and its ids have to be ours."""
    assert row.rejected is not None
    return {
        "prompt": _asked(case, row),
        "chosen": [{"role": "assistant", "content": row.answer}],
        "rejected": [{"role": "assistant", "content": row.rejected}],
    }
