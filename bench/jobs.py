"""The training jobs: what is trained, how, on which texts, and on which shapes.

The numbers B1 to B6 are those of the performance goals. A job is one line here; everything else
(the gate, the peer's options, blocks, table) follows from it.
"""

from __future__ import annotations

from typing import NamedTuple


class Job(NamedTuple):
    """One kind of training."""

    goal: str
    """Its number among the performance goals."""
    title: str
    texts: str
    """A name of `texts.SOURCES`."""
    instruction: str
    """What stands before every question; `{labels}` is all answers of the data."""
    delta: str = "lora"
    """A name of `ours.DELTAS`, known to `peer.peft_config`."""
    objective: str = "sft"
    """A name of `ours.OBJECTIVES` and `grid.GRIDS`."""
    learning_rate: float = 1e-3
    batch_size: int = 16
    steps: int = 4
    """Optimizer steps of a timed pass of a full run at 5M."""
    shapes: tuple[str, ...] = ("5M", "30M")
    gate_rows: int = 4
    """Rows of a step of the equality gate."""
    group: int = 1
    """Answers to each row; a batch and a step count answers."""
    written: int = 0
    """Most tokens of an answer that the policy writes; 0 where rows have theirs."""


CLASSIFY = "Classify the customer's message."
NAMED = "Classify the customer's message into exactly one of these intents: {labels}."
RANK = 16
"""Of LoRA, on all linear maps."""
VIRTUAL_TOKENS = 20
"""Of soft prompts."""
GROUP = 8
"""Answers that GRPO compares."""
BETA = 0.04
"""Weight of GRPO's KL to the reference."""
EPSILON = 0.2
"""How far a ratio of GRPO's may move and still earn something."""
SOFT = ("prompt_tuning", "p_tuning", "prefix_tuning")
"""Deltas that put virtual tokens before the input."""

JOBS = {
    "lora-short": Job(
        "B1", "LoRA SFT, Banking77", "banking77", CLASSIFY, steps=8,
        shapes=("5M", "30M", "wide", "135M"),
    ),
    "lora-medium": Job("B1", "LoRA SFT, E2E", "e2e", "Write the facts as one sentence."),
    "lora-long": Job(
        "B1", "LoRA SFT, GSM8K", "gsm8k", "Solve the problem step by step.", steps=2, gate_rows=2
    ),
    "full": Job(
        "B2", "full SFT, Banking77", "banking77", CLASSIFY, "full", learning_rate=1e-4, steps=8
    ),
    "lora-labels": Job(
        "B3", "LoRA SFT, 77 labels named, batch 32", "banking77", NAMED, batch_size=32, steps=1
    ),
    "lora-labels-16": Job(
        "B3", "LoRA SFT, 77 labels named, batch 16", "banking77", NAMED, steps=2, shapes=("5M",)
    ),
    "prompt-tuning": Job(
        "B4", "prompt tuning, Banking77", "banking77", CLASSIFY, "prompt_tuning",
        learning_rate=1e-2,
    ),
    "p-tuning": Job("B4", "P-tuning, Banking77", "banking77", CLASSIFY, "p_tuning"),
    "prefix-tuning": Job(
        "B4", "prefix tuning, Banking77", "banking77", CLASSIFY, "prefix_tuning",
        learning_rate=1e-2,
    ),
    "dpo": Job(
        "B6", "LoRA DPO, HH-RLHF", "hh_rlhf", "Continue the dialogue.", objective="dpo",
        learning_rate=1e-4, batch_size=8, steps=1, shapes=("5M",), gate_rows=2,
    ),
    "reward": Job(
        "B7", "LoRA reward model, HH-RLHF", "hh_rlhf", "Continue the dialogue.",
        objective="reward", batch_size=8, steps=1, shapes=("5M",), gate_rows=2,
    ),
    "grpo": Job(
        "B7", "LoRA GRPO, GSM8K", "gsm8k", "Solve the problem step by step.", objective="grpo",
        learning_rate=1e-4, shapes=("5M",), gate_rows=16, group=GROUP, written=64,
    ),
}  # fmt: skip
QUICK = ("lora-short", "full", "prompt-tuning")
"""What a quick run measures, at its first shape."""


class Pace(NamedTuple):
    """How much of a job is affordable at a shape."""

    share: float
    """Of the steps of a timed pass."""
    gate_steps: int


PACES = {
    "5M": Pace(1, 20),
    "30M": Pace(0.5, 20),
    "wide": Pace(0.25, 6),
    "135M": Pace(0.25, 6),
}
