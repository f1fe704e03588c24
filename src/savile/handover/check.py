"""What was written is read back and held against what was measured, before it is handed over.

    ids        every chat becomes the same tokens (behind the new ones of a soft prompt)
    logits     of every token of the wanted answers: |found - wanted| / max(1, |wanted|)

In float32 the limit is that of a base's own probe. Weights that are rounded to fewer digits compute
otherwise by right, by about as much as the type computes wrong itself (bfloat16, LoRA merged into
the embedded base: 0.36, where bfloat16 and float32 differ by 0.26 and LoRA changes 16.7); then it
is a tenth of the largest change that the technique makes. So a chat template that the tokenizer of
the folder reads differently, and a merge that is wrong, are both found.

Cost: three forward passes over a few rows, and a second model in memory where the files hold one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

from savile.errors import IntegrityError, Problem
from savile.export.base import Opened
from savile.lm.probe import PROBE_TOLERANCE
from savile.lm.tree import Paths, build
from savile.prompts.base import Frame
from savile.types import Example

ANSWER_TOKENS: Final = 16
"""Tokens of each wanted answer that are compared."""
SHARE_OF_CHANGE: Final = 0.1
"""Of what a technique changes, where weights are rounded."""


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


def limit_of(dtype: torch.dtype, measured: Seen, plain: Seen) -> float:
    """Return the largest difference of a logit that is allowed.

    Args:
        dtype: what the base computes in.
        measured: of the technique.
        plain: of the base alone.
    """
    limit = PROBE_TOLERANCE[dtype]
    if dtype == torch.float32:
        return limit
    return max(limit, SHARE_OF_CHANGE * _largest(plain.logits, measured.logits))


def difference(measured: Seen, found: Seen, limit: float, where: str) -> float:
    """Return the largest difference of a logit.

    Args:
        measured: of the technique as the run left it.
        found: of the files; tokens that the base did not know are left out.
        limit: how much it may be.
        where: the folder, for the error.

    Raises:
        IntegrityError: other tokens, or a difference beyond the limit.
    """
    new = measured.virtual - found.virtual
    if [prompt[new:] for prompt in found.prompts] != measured.prompts:
        what = "the exported tokenizer or template reads a chat differently"
        raise IntegrityError(Problem(where=where, what=what, fix=_FIX))
    largest = _largest(found.logits[:, : measured.logits.shape[1]], measured.logits)
    if not largest <= limit:  # not a number is no pass
        raise IntegrityError(
            Problem(
                where=where,
                what="what was written does not compute what was measured",
                found=f"a logit differs by {largest:.1e}",
                expected=f"at most {limit:.1e}",
                fix=_FIX,
            )
        )
    return largest


def _largest(found: Tensor, wanted: Tensor) -> float:
    return float(((found - wanted).abs() / wanted.abs().clamp(min=1.0)).max())


_FIX: Final = "Nothing was kept. Try another --form, and report this"
