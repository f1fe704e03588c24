"""One seed for every purpose, derived by name: adding a technique changes no other's numbers."""

from __future__ import annotations

import hashlib

BITS = 31
"""Small enough for every library that takes a seed."""


def derive(seed: int, *purpose: str | int) -> int:
    """Return the seed of one purpose, for example `derive(0, "lora", 1, "train")`."""
    text = "\x1f".join(str(word) for word in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> (64 - BITS)
