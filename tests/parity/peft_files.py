"""What parity tests with PEFT share: its files on disk, and log-probabilities from its models."""

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from savile.deltas.base import Peft
from savile.lm.model import LM
from savile.lm.tree import build
from tests import tiny


def write(peft: Peft, folder: Path) -> None:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(peft.config))
    (folder / "adapter_model.safetensors").write_bytes(peft.blob())


def read(folder: Path) -> Peft:
    return Peft(
        json.loads((folder / "adapter_config.json").read_text()),
        safetensors.torch.load((folder / "adapter_model.safetensors").read_bytes()),
    )


def their_logprobs(model: torch.nn.Module) -> Tensor:
    """Return log-probabilities of every completion token, sequence by sequence."""
    found = []
    for prompt, completion in tiny.paths(tiny.groups()):
        ids = torch.tensor([[*prompt, *completion]])
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        rows = logits[-len(completion) - 1 : -1].log_softmax(-1)
        found.append(rows[range(len(completion)), completion])
    return torch.cat(found)


def our_logprobs(lm: LM) -> Tensor:
    return lm.logprobs(build(tiny.groups()))


def close(ours: Tensor, theirs: Tensor) -> float:
    """Assert that numbers agree; return their largest difference."""
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    return float((ours - theirs).abs().max())


def relative(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor | None]) -> float:
    """Assert that gradients agree by name; return their largest relative difference."""
    assert ours.keys() == theirs.keys()
    worst = 0.0
    for name, gradient in ours.items():
        other = theirs[name]
        assert other is not None
        error = float((gradient - other).norm() / other.norm())
        assert error <= 1e-5, name
        worst = max(worst, error)
    return worst
