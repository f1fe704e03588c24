"""The peer's side of the ladder: TRL's SFTTrainer as shipped over PEFT, labels by their likelihood.

Usage: ladder_peer.py FOLDER. Reads `FOLDER/asked.json`, writes `FOLDER/told.json`; what libraries
print goes to stderr. Token ids come from our side, so both sides read and learn the same tokens.

Questions are answered as an evaluation harness does: the prompt with each label in turn, one padded
batch a question, the sum of the label's log-probabilities decides. Only the label's positions go
through the softmax, which the harness does not spare, so the price here is below its own.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig, PromptTuningConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from machine import Clock

PEFT: dict[str, Any] = {
    "lora": lambda: LoraConfig(
        r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    ),
    "prompt_tuning": lambda: PromptTuningConfig(num_virtual_tokens=20, task_type="CAUSAL_LM"),
    "full": lambda: None,
}

Rows = list[dict[str, list[int]]]


def main(folder: Path) -> None:
    """Do what is asked: time blocks of training and answering, or train and answer for real."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    disable_progress_bars()
    asked = json.loads((folder / "asked.json").read_text(encoding="utf-8"))
    told: list[dict[str, Any]] = []
    for block in range(asked["blocks"]):
        for delta in asked["deltas"]:
            told.append({"kind": "rate", "block": block, "delta": delta, **rate(asked, delta)})
        for name, prompts in asked["prompts"].items():
            told.append({"kind": "question", "block": block, **price(asked, name, prompts)})
    for run in asked["runs"]:
        told.append({"kind": "answers", "technique": run["technique"], **real(asked, run)})
    (folder / "told.json").write_text(json.dumps(told), encoding="utf-8")


def rate(asked: dict[str, Any], delta: str) -> dict[str, Any]:
    """Return the CPU seconds of a presentation: a pass over the rows after one to warm up."""
    trainer = trainer_of(asked, delta, asked["rows"], len(asked["rows"]), 1e-4)
    trainer.train()
    start = Clock.now()
    trainer.train()
    return {"cpu_seconds": Clock.now().since(start).cpu / len(asked["rows"])}


def price(asked: dict[str, Any], name: str, prompts: list[list[int]]) -> dict[str, Any]:
    """Return the CPU seconds of a question whose prompt has so many tokens."""
    model = AutoModelForCausalLM.from_pretrained(asked["model"], dtype=torch.float32)
    answers(model, prompts[:1], asked["labels"])
    start = Clock.now()
    answers(model, prompts, asked["labels"])
    tokens = sum(map(len, prompts)) / len(prompts)
    seconds = Clock.now().since(start).cpu / len(prompts)
    return {"prompt": name, "prompt_tokens": tokens, "cpu_seconds": seconds}


def real(asked: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """Train as our ladder did and return the answers to the test."""
    start = Clock.now()
    if run["delta"] is None:
        model = AutoModelForCausalLM.from_pretrained(asked["model"], dtype=torch.float32)
    else:
        rate = run["learning_rate"]
        trainer = trainer_of(asked, run["delta"], asked["rows"], run["examples"], rate)
        trainer.train()
        model = trainer.model
    found = answers(model.eval(), asked["prompts"][run["prompt"]], asked["labels"])
    return {"answers": found, "cpu_seconds": Clock.now().since(start).cpu}


def trainer_of(asked: dict[str, Any], delta: str, rows: Rows, examples: int, rate: float) -> Any:
    """Return TRL's trainer as shipped, for so many presentations."""
    folder = tempfile.mkdtemp()
    batch = asked["batch_size"]
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(asked["model"], dtype=torch.float32),
        args=SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=batch,
            max_steps=max(1, examples // batch),
            learning_rate=rate,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=Dataset.from_list(
            [
                {
                    "input_ids": row["prompt"] + row["completion"],
                    "labels": [-100] * len(row["prompt"]) + row["completion"],
                }
                for row in rows
            ]
        ),
        processing_class=AutoTokenizer.from_pretrained(asked["model"]),
        peft_config=PEFT[delta](),
    )


@torch.no_grad()
def answers(model: Any, prompts: list[list[int]], labels: list[list[int]]) -> list[int]:
    """Return the number of the likeliest label of every prompt."""
    found = []
    for prompt in prompts:
        longest = len(prompt) + max(map(len, labels))
        ids = torch.zeros(len(labels), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, label in enumerate(labels):
            ids[row, : len(prompt) + len(label)] = torch.tensor(prompt + label)
            mask[row, : len(prompt) + len(label)] = 1
        logits = model(input_ids=ids, attention_mask=mask).logits[:, -longest:]
        scores = []
        for row, label in enumerate(labels):
            own = logits[row, len(prompt) - 1 : len(prompt) + len(label) - 1].log_softmax(-1)
            scores.append(float(own.gather(-1, torch.tensor(label)[:, None]).sum()))
        found.append(max(range(len(labels)), key=scores.__getitem__))
    return found


if __name__ == "__main__":
    os.dup2(2, 1)
    main(Path(sys.argv[1]))
