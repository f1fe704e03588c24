"""Greedy generation for many prompts at once: the shared prefix is computed once, finished rows
leave.

The prompts form a tree; after its forward pass the keys and values of the stem stay shared and
those of each prompt's own tokens are laid side by side, with room for the answers. No padding
enters a sequence, so the answers equal those of single runs (up to rounding of near-ties).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from savile.lm.model import LM
from savile.lm.store import after_prompts
from savile.lm.tree import Paths, build


@torch.no_grad()
def greedy(lm: LM, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
    """Return the ids written after each prompt, the end token left out.

    Args:
        lm: the model, with whatever delta is attached.
        prompts: token ids, at least one each.
        max_new_tokens: where an answer is cut that has not ended by itself.
    """
    if not prompts:
        return []
    stops = end_tokens(lm)
    if not lm.uses_tree:
        return [_plain(lm, prompt, max_new_tokens, stops) for prompt in prompts]
    tree = build([Paths(prompt, []) for prompt in prompts])
    layout = lm.plan(tree)
    layout.keep = {}
    logits = lm.logits(tree, tree.ends, layout)
    store = after_prompts(tree, layout, max_new_tokens)
    lengths = torch.tensor(store.prompt_slots, device=lm.device)
    answers: list[list[int]] = [[] for _ in prompts]
    running = np.arange(len(prompts))
    for written in range(max_new_tokens):
        tokens = logits.argmax(-1)
        chosen = tokens.tolist()
        alive = np.asarray([token not in stops for token in chosen])
        for row, token in zip(running[alive], np.asarray(chosen)[alive], strict=True):
            answers[row].append(int(token))
        if not alive.any() or written + 1 == max_new_tokens:
            break
        if not alive.all():
            kept = torch.from_numpy(np.flatnonzero(alive)).to(lm.device)
            running, tokens, lengths = running[alive], tokens[kept], lengths[kept]
            store.retain(kept)
        slots = torch.arange(int(lengths.max()) + 1, device=lm.device)
        seen = slots <= lengths[:, None]
        store.append(lengths[:, None], lengths[:, None] + store.stem_depth, seen[:, None])
        logits = lm.step(tokens[:, None], store)[:, 0]
        lengths = lengths + 1
    return answers


def end_tokens(lm: LM) -> frozenset[int]:
    """Return the ids that end an answer: the template's, the tokenizer's and the model's own."""
    stops = {lm.template.end, lm.tokenizer.eos_token_id}
    own = lm.model.generation_config.eos_token_id
    stops.update(own if isinstance(own, list) else [own])
    return frozenset(int(s) for s in stops if s is not None)


def _plain(lm: LM, prompt: Sequence[int], limit: int, stops: frozenset[int]) -> list[int]:
    """Generate for one prompt on a model that takes no tree: every step computes the whole
    sequence."""
    answer: list[int] = []
    for _ in range(limit):
        tree = build([Paths([*prompt, *answer], [])])
        token = int(lm.logits(tree, tree.ends)[0].argmax())
        if token in stops:
            break
        answer.append(token)
    return answer
