"""Two small tuners for the probe only: LoRA and full fine-tuning.

Savile's own techniques live in the package; these lines only check that the cases show a ladder.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from peft import LoraConfig, TaskType, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

# method: (learning rate, steps)
TUNERS = {"lora": (0.005, 300), "full": (0.001, 300)}
Example = tuple[list[int], list[int]]  # ids of the prompt; ids of prompt and answer


def tune(folder: Path, method: str, examples: list[Example], seed: int) -> torch.nn.Module:
    """Train on the answers with batches of 16 and a linear decay; return the tuned model."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if method == "lora":
        config = LoraConfig(
            task_type=TaskType.CAUSAL_LM, r=8, lora_alpha=16, target_modules="all-linear"
        )
        model = get_peft_model(model, config)
    rate, steps = TUNERS[method]
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
    rng = random.Random(seed)
    for step in range(steps):
        batch = rng.sample(examples, min(16, len(examples)))
        longest = max(len(whole) for _, whole in batch)
        ids = torch.tensor([whole + [0] * (longest - len(whole)) for _, whole in batch])
        targets = torch.full_like(ids, -100)
        for row, (prompt, whole) in enumerate(batch):
            targets[row, len(prompt) : len(whole)] = torch.tensor(whole[len(prompt) :])
        logits = model(input_ids=ids, attention_mask=(ids != 0).long()).logits[:, -longest:]
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), targets[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - step / steps) * min(1.0, (step + 1) / 20)
        optimizer.step()
        optimizer.zero_grad()
    return model.merge_and_unload().eval() if method == "lora" else model.eval()
