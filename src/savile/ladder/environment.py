"""What `savile env` tells: versions, device, cores, and what the device computes natively."""

from __future__ import annotations

from typing import Any

import torch

from savile import __version__
from savile.ladder.identity import versions
from savile.ladder.prepare import machine
from savile.lm.load import has_bfloat16


def facts() -> dict[str, Any]:
    """Return the facts by name."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    return {
        "savile": __version__,
        **versions(),
        **machine(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "bfloat16": has_bfloat16(device),
    }
