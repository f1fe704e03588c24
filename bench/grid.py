"""The published grid of the peer's own options; names only, so that it can be read without TRL.

Every option is documented by TRL, transformers or glibc; none patches anything.
"""

from __future__ import annotations

from typing import Any, NamedTuple

KEEP_PAGES = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "268435456",
}
"""glibc keeps freed pages instead of giving them back after every large tensor."""


class Option(NamedTuple):
    """One way to run the peer."""

    settings: dict[str, Any]
    """What differs from SFTConfig's defaults."""
    dtype: str = "float32"
    """Type of the frozen weights."""
    attention: str = "sdpa"
    environment: dict[str, str] | None = None


_FAST = {"gradient_checkpointing": False}
_FP32 = {**_FAST, "bf16": False}
_BY_LENGTH = {"train_sampling_strategy": "group_by_length"}
_FLAT = {"padding_free": True, "max_length": None}
_PACKED = {"packing": True, "max_length": 512, "per_device_train_batch_size": 1}
SHIPPED = "as shipped"
OPTIONS: dict[str, Option] = {
    SHIPPED: Option({}),
    "no checkpointing": Option(_FAST),
    "fp32": Option(_FP32),
    "fp32, keep pages": Option(_FP32, environment=KEEP_PAGES),
    "fp32, eager attention, keep pages": Option(_FP32, "float32", "eager", KEEP_PAGES),
    "bf16 weights": Option(_FAST, "bfloat16"),
    "by length, fp32, keep pages": Option({**_FP32, **_BY_LENGTH}, environment=KEEP_PAGES),
    "padding-free, bf16 autocast": Option({**_FAST, **_FLAT}),
    "padding-free, bf16 weights, eager attention, keep pages": Option(
        {**_FAST, **_FLAT}, "bfloat16", "eager", KEEP_PAGES
    ),
    "padding-free, fp32, keep pages": Option({**_FP32, **_FLAT}, environment=KEEP_PAGES),
    "padding-free, fp32, eager attention, keep pages": Option(
        {**_FP32, **_FLAT}, "float32", "eager", KEEP_PAGES
    ),
    "packing 512, fp32, keep pages": Option({**_FP32, **_PACKED}, environment=KEEP_PAGES),
}
"""The published grid. All but the first switch gradient checkpointing off."""
QUICK = {
    "short": (
        SHIPPED,
        "padding-free, bf16 weights, eager attention, keep pages",
        "padding-free, fp32, keep pages",
        "padding-free, fp32, eager attention, keep pages",
    ),
    "labels": (
        SHIPPED,
        "fp32, keep pages",
        "fp32, eager attention, keep pages",
        "by length, fp32, keep pages",
    ),
}
"""What a quick run tries of it, by case: the options that a full run showed to be ahead."""


def options(case: str, *, full: bool) -> list[str]:
    """Return the names of the options to try.

    A flattened batch of long prompts under eager attention would need gigabytes for one layer's
    scores, so the `labels` case leaves those two out.
    """
    if not full:
        return list(QUICK[case])
    huge = "padding-free" if case == "labels" else "none"
    return [name for name in OPTIONS if not (name.startswith(huge) and "eager" in name)]


EXACT = Option(_FP32)
"""What the equality gate compares with: fp32 throughout."""
