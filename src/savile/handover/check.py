"""What was written is read back and held against what was measured, before it is handed over.

    ids        every chat becomes the same tokens (behind the new ones of a soft prompt)
    logits     of every token of the wanted answers: |found - wanted| / max(1, |wanted|)

The limit is that of a base's own probe, by the type it computes in. So a chat template that another
tokenizer reads differently, and a merge that is wrong, are both found.

Cost: two forward passes over a few rows, and a second model in memory where the files hold one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

from savile.errors import IntegrityError, Problem
from savile.export.base import Opened
from savile.lm.model import PROBE_TOLERANCE
from savile.lm.tree import Paths, build
from savile.prompts.base import Frame
from savile.types import Example

ANSWER_TOKENS: Final = 16
"""Tokens of each wanted answer that are compared."""


class Seen(NamedTuple):
    """What a model makes of some rows."""

    prompts: list[list[int]]
    logits: Tensor
    """[M, V] float32 on the CPU, one row a compared token."""
    virtual: int
    """Virtual positions before every sequence."""


@torch.no_grad()
def seen(opened: Opened, frame: Frame, rows: Sequence[Example]) -> Seen:
    """Return the tokens and logits of rows under a frame that can show all of them."""
    lm, template = opened
    prompts = [template.encode_prompt(frame.messages(row)) for row in rows]
    answers = [template.encode_completion(frame.target(row))[:ANSWER_TOKENS] for row in rows]
    tree = build([Paths(p, [answer]) for p, answer in zip(prompts, answers, strict=True)])
    logits = lm.logits(tree, tree.targets.source).cpu()
    return Seen(prompts, logits, lm.root_tokens)


def difference(measured: Seen, found: Seen, dtype: torch.dtype, where: str) -> float:
    """Return the largest difference of a logit.

    Args:
        measured: of the technique as the run left it.
        found: of the files; tokens that the base did not know are left out.
        dtype: what they compute in.
        where: the folder, for the error.

    Raises:
        IntegrityError: other tokens, or a difference beyond the limit.
    """
    new = measured.virtual - found.virtual
    if [prompt[new:] for prompt in found.prompts] != measured.prompts:
        what = "the exported tokenizer or template reads a chat differently"
        raise IntegrityError(Problem(where=where, what=what, fix=_FIX))
    wanted = measured.logits
    error = (found.logits[:, : wanted.shape[1]] - wanted).abs() / wanted.abs().clamp(min=1.0)
    largest, limit = float(error.max()), PROBE_TOLERANCE[dtype]
    if not largest <= limit:  # not a number is no pass
        raise IntegrityError(
            Problem(
                where=where,
                what="what was written does not compute what was measured",
                found=f"a logit differs by {largest:.1e}",
                expected=f"at most {limit:.0e} in {str(dtype).removeprefix('torch.')}",
                fix=_FIX,
            )
        )
    return largest


_FIX: Final = "Nothing was kept. Try another --form, and report this"
