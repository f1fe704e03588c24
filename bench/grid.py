"""The published grid of the peer's own options; names only, so that it can be read without TRL.

Every option is documented by TRL, transformers or glibc; none patches anything.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from jobs import SOFT, Job

KEEP_PAGES = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "268435456",
}
"""glibc keeps freed pages instead of giving them back after every large tensor."""


class Option(NamedTuple):
    """One way to run the peer."""

    settings: dict[str, Any]
    """What differs from the defaults of the trainer's configuration."""
    dtype: str = "float32"
    """Type of the frozen weights."""
    attention: str = "sdpa"
    environment: dict[str, str] | None = None
    trainer: str = "sft"
    """A name of `peer.TRAINERS`."""
    likely: bool = False
    """Whether a quick run tries it: full runs showed it to be ahead somewhere."""
    flat: bool = False
    """Whether several rows stand in one sequence."""


_FAST = {"gradient_checkpointing": False}
_FP32 = {**_FAST, "bf16": False}
_BY_LENGTH = {"train_sampling_strategy": "group_by_length"}
_FLAT = {"padding_free": True, "max_length": None}
_PACKED = {"packing": True, "max_length": 512, "per_device_train_batch_size": 1}
_ONCE = {"precompute_ref_log_probs": True}
_ROUND = {"steps_per_generation": 4}
_EXACT = {**_FP32, "lr_scheduler_type": "linear"}
SHIPPED, UNCHECKED = "as shipped", "no checkpointing"
PREFIX = "prefix_tuning"
_SFT = {
    SHIPPED: Option({}, likely=True),
    UNCHECKED: Option(_FAST),
    "fp32": Option(_FP32),
    "fp32, keep pages": Option(_FP32, environment=KEEP_PAGES, likely=True),
    "fp32, eager attention, keep pages": Option(
        _FP32, attention="eager", environment=KEEP_PAGES, likely=True
    ),
    "bf16 weights": Option(_FAST, "bfloat16"),
    "by length, fp32, keep pages": Option({**_FP32, **_BY_LENGTH}, environment=KEEP_PAGES),
    "padding-free, bf16 autocast": Option({**_FAST, **_FLAT}, flat=True),
    "padding-free, bf16 weights, eager attention, keep pages": Option(
        {**_FAST, **_FLAT}, "bfloat16", "eager", KEEP_PAGES, flat=True
    ),
    "padding-free, fp32, keep pages": Option(
        {**_FP32, **_FLAT}, environment=KEEP_PAGES, likely=True, flat=True
    ),
    "padding-free, fp32, eager attention, keep pages": Option(
        {**_FP32, **_FLAT}, attention="eager", environment=KEEP_PAGES, likely=True, flat=True
    ),
    "packing 512, fp32, keep pages": Option(
        {**_FP32, **_PACKED}, environment=KEEP_PAGES, flat=True
    ),
}
_DPO = {
    SHIPPED: Option({}, trainer="dpo", likely=True),
    UNCHECKED: Option(_FAST, trainer="dpo"),
    "reference precomputed": Option(_ONCE, trainer="dpo"),
    "reference precomputed, fp32": Option({**_ONCE, **_FP32}, trainer="dpo"),
    "reference precomputed, fp32, keep pages": Option(
        {**_ONCE, **_FP32}, environment=KEEP_PAGES, trainer="dpo", likely=True
    ),
    "reference precomputed, fp32, eager attention, keep pages": Option(
        {**_ONCE, **_FP32}, "float32", "eager", KEEP_PAGES, "dpo", likely=True
    ),
    "reference precomputed, bf16 weights": Option({**_ONCE, **_FAST}, "bfloat16", trainer="dpo"),
    "reference precomputed, bf16 weights, eager attention, keep pages": Option(
        {**_ONCE, **_FAST}, "bfloat16", "eager", KEEP_PAGES, "dpo"
    ),
}
_REWARD = {
    SHIPPED: Option({}, trainer="reward", likely=True),
    UNCHECKED: Option(_FAST, trainer="reward"),
    "fp32": Option(_FP32, trainer="reward"),
    "fp32, keep pages": Option(_FP32, environment=KEEP_PAGES, trainer="reward", likely=True),
    "fp32, eager attention, keep pages": Option(
        _FP32, "float32", "eager", KEEP_PAGES, "reward", likely=True
    ),
    "bf16 weights": Option(_FAST, "bfloat16", trainer="reward"),
    "bf16 weights, eager attention, keep pages": Option(
        _FAST, "bfloat16", "eager", KEEP_PAGES, "reward"
    ),
}
_GRPO = {
    SHIPPED: Option({}, trainer="grpo", likely=True),
    UNCHECKED: Option(_FAST, trainer="grpo"),
    "fp32, keep pages": Option(_FP32, environment=KEEP_PAGES, trainer="grpo", likely=True),
    "four steps a generation": Option(_ROUND, trainer="grpo"),
    "four steps a generation, fp32, keep pages": Option(
        {**_ROUND, **_FP32}, environment=KEEP_PAGES, trainer="grpo", likely=True
    ),
    "four steps a generation, fp32, eager attention, keep pages": Option(
        {**_ROUND, **_FP32}, "float32", "eager", KEEP_PAGES, "grpo", likely=True
    ),
    "four steps a generation, bf16 weights": Option(
        {**_ROUND, **_FAST}, "bfloat16", trainer="grpo"
    ),
    "four steps a generation, bf16 weights, eager attention, keep pages": Option(
        {**_ROUND, **_FAST}, "bfloat16", "eager", KEEP_PAGES, "grpo"
    ),
}
_TRAINER = {
    "transformers Trainer, bf16 weights": Option({}, "bfloat16", trainer="plain"),
    "transformers Trainer, bf16 weights, eager attention, keep pages": Option(
        {}, "bfloat16", "eager", KEEP_PAGES, "plain"
    ),
    "transformers Trainer, fp32, keep pages": Option({}, environment=KEEP_PAGES, trainer="plain"),
    "transformers Trainer, fp32, eager attention, keep pages": Option(
        {}, attention="eager", environment=KEEP_PAGES, trainer="plain"
    ),
}
_EXACTLY = {
    "exact sft": Option(_EXACT),
    "exact dpo": Option(_EXACT, trainer="dpo"),
    "exact reward": Option(_EXACT, trainer="reward"),
    "exact grpo": Option({**_EXACT, **_ROUND}, trainer="grpo"),
}
"""What the equality gate compares with: fp32 throughout."""
GRIDS: Final = {"sft": _SFT, "dpo": _DPO, "reward": _REWARD, "grpo": _GRPO}
OPTIONS: Final = {
    **{f"sft: {name}": option for name, option in _SFT.items()},
    **{f"dpo: {name}": option for name, option in _DPO.items()},
    **{f"reward: {name}": option for name, option in _REWARD.items()},
    **{f"grpo: {name}": option for name, option in _GRPO.items()},
    **_TRAINER,
    **_EXACTLY,
}
LONG: Final = 200
"""Tokens of a row from which a flattened batch is left out under eager attention: the scores of
one of its layers would need gigabytes."""
MANY: Final = 16384
"""Tokens of a batch from which it is not flattened whole: with 23,000 tokens the peer ran out of
24 GB."""


def shipped(job: Job) -> str:
    """Return the name of the option that is nearest to what TRL does by itself: with checkpointing,
    its default, PEFT's prefix tuning fails (the cached prefix and the recomputation disagree)."""
    return f"{job.objective}: {UNCHECKED if job.delta == PREFIX else SHIPPED}"


def tried(job: Job, tokens_a_row: float, *, full: bool) -> list[str]:
    """Return the names of the TRL options to try for a job.

    Virtual tokens stand before a sequence, so rows that share one would share them: the options
    that flatten or pack a batch train something else, and soft prompts leave them out.
    """
    return [
        f"{job.objective}: {name}"
        for name, option in GRIDS[job.objective].items()
        if (full or option.likely)
        and not (name == SHIPPED and job.delta == PREFIX)
        and not (option.flat and job.delta in SOFT)
        and not (option.flat and option.attention == "eager" and tokens_a_row > LONG)
        and not ("padding_free" in option.settings and tokens_a_row * job.batch_size > MANY)
    ]


def trainers(job: Job, shape: str) -> list[str]:
    """Return the names of transformers' own Trainer to try beside TRL: with a wide vocabulary TRL
    computes every position's scores twice, which the Trainer does not."""
    return list(_TRAINER) if job.objective == "sft" and shape == "wide" else []
