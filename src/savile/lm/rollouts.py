"""Answers a policy wrote, with their log-probabilities token by token.

A rollout knows the log-probabilities it was drawn with and those of a reference; the prompts of all
rollouts form one tree, so eight answers to one prompt compute it once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from savile.lm.generate import sample
from savile.lm.model import LM
from savile.lm.packing import packs
from savile.lm.tree import Paths, Tree, build


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """One answer. T tokens, the end token included when the answer ended."""

    row: int
    """Number of the row it answers."""
    prompt: Sequence[int]
    answer: list[int]
    logprobs: Tensor
    """log p of its tokens under the policy that wrote it, float32 [T]."""
    reference: Tensor
    """log p of its tokens under the reference, float32 [T]; empty where none was asked."""

    @property
    def paths(self) -> Paths:
        """The prompt and its one completion."""
        return Paths(self.prompt, [self.answer])

    @property
    def kl(self) -> float:
        """log p - log p_ref of the answer, in nats: on average over answers, their KL."""
        return float((self.logprobs - self.reference).sum())


def roll_out(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[int],
    *,
    seeds: Sequence[int],
    max_new_tokens: int,
    tokens_per_tree: int,
    reference: Callable[[], AbstractContextManager[None]] | None,
    temperature: float = 1.0,
) -> list[Rollout]:
    """Let the policy answer `prompts[row]` for every entry of `rows`.

    Args:
        lm: the policy.
        prompts: token ids of all rows.
        rows: which to answer; a row may stand there many times.
        seeds: one for each entry of `rows`.
        max_new_tokens: where an answer is cut.
        tokens_per_tree: most separate tokens of one forward pass.
        reference: inside its context the model computes as the reference; None asks no reference.
        temperature: of the drawing; log-probabilities are those of temperature 1.
    """
    asked = [prompts[row] for row in rows]
    answers = sample(lm, asked, max_new_tokens, seeds=seeds, temperature=temperature)
    none = torch.zeros(0)
    drawn = [
        Rollout(row=row, prompt=prompt, answer=answer, logprobs=none, reference=none)
        for row, prompt, answer in zip(rows, asked, answers, strict=True)
    ]
    own = token_logprobs(lm, drawn, tokens_per_tree)
    theirs = [none] * len(drawn)
    if reference is not None:
        with reference():
            theirs = token_logprobs(lm, drawn, tokens_per_tree)
    return [
        replace(one, logprobs=a, reference=b) for one, a, b in zip(drawn, own, theirs, strict=True)
    ]


@torch.no_grad()
def token_logprobs(lm: LM, rollouts: Sequence[Rollout], tokens_per_tree: int) -> list[Tensor]:
    """Return log p of every answer's tokens, float32 [T] each, on the CPU."""
    found: dict[int, Tensor] = {}
    for pack in packs(range(len(rollouts)), tokens_per_tree, lambda n: rollouts[n].paths):
        flat = lm.logprobs(tree_of([rollouts[n] for n in pack])).cpu()
        parts = torch.split(flat, [len(rollouts[n].answer) for n in pack])
        found |= zip(pack, parts, strict=True)
    return [found[n] for n in range(len(rollouts))]


def tree_of(rollouts: Sequence[Rollout]) -> Tree:
    """Return the tree of rollouts; their tokens are its targets, in order."""
    return build([one.paths for one in rollouts])
