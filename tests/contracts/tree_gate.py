"""The tree gate: a token tree gives what its separate sequences give, per model family and delta.

    python -m tests.contracts.tree_gate        (from the root of the repository)

prints one row a family and one column a delta: the largest relative error of the loss and of any
gradient, in float32. The reference is transformers' own eager attention, one sequence at a time.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Final, NamedTuple

import torch
from torch import Tensor

from savile import registry
from savile.deltas.base import Attached, Delta
from savile.lm.model import LM
from savile.lm.tree import Paths, build
from tests import tiny

LIMIT: Final = 1e-5
"""Largest relative error allowed, of the loss and of every gradient."""


class Errors(NamedTuple):
    """Relative errors of a tree against its separate sequences."""

    loss: float
    gradient: float
    worst: str
    """The parameter with the largest error."""


def measure(lm: LM, delta: Delta) -> Errors:
    """Compare loss and all gradients of one delta on one model, away from its starting point."""
    with delta.attach(lm, 0) as attached:
        shake(attached)
        parameters = attached.parameters()
        tree = -lm.sequence_logprobs(build(tiny.groups())).sum()
        got = gradients(tree, parameters)
        with eager(lm):
            pairs = tiny.paths(tiny.groups())
            alone = -torch.stack(
                [lm.sequence_logprobs(build([Paths(p, [c])])).sum() for p, c in pairs]
            ).sum()
            wanted = gradients(alone, parameters)
        errors = {
            name: float((got[name] - wanted[name]).norm() / wanted[name].norm()) for name in wanted
        }
        worst = max(errors, key=errors.__getitem__)
        loss = float((tree - alone).detach().abs() / alone.detach().abs())
        return Errors(loss, errors[worst], worst)


def gradients(loss: Tensor, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the gradient of every parameter; one that has none is an error."""
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


@torch.no_grad()
def shake(attached: Attached, size: float = 0.02, seed: int = 7) -> None:
    """Move every parameter off its starting point, so that nothing is zero by construction."""
    rng = torch.Generator().manual_seed(seed)
    for parameter in attached.parameters().values():
        noise = torch.randn(parameter.shape, generator=rng) * size
        parameter += noise.to(parameter.dtype)


@contextlib.contextmanager
def eager(lm: LM) -> Iterator[None]:
    """Compute with transformers' own attention on plain sequences, inside the context."""
    used, before = lm.uses_tree, lm.model.config._attn_implementation
    lm.uses_tree = False
    lm.model.set_attn_implementation("eager")
    try:
        yield
    finally:
        lm.uses_tree = used
        lm.model.set_attn_implementation(before)


def main() -> int:
    """Print the table; the exit status is 1 when an error is above the limit."""
    torch.set_num_threads(1)
    names = sorted(registry.parts("deltas"))
    lines = [["family", *(f"{name}: loss, gradient" for name in names)]]
    failed = False
    for family in tiny.FAMILIES:
        row = [family]
        for name in names:
            errors = measure(tiny.lm(family), registry.load("deltas", name)())
            failed |= max(errors[:2]) > LIMIT
            row.append(f"{errors.loss:.1e}, {errors.gradient:.1e}")
        lines.append(row)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write("| " + " | ".join(cells) + " |\n")
        if line is lines[0]:
            sys.stdout.write("|" + "|".join("-" * (width + 2) for width in widths) + "|\n")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
