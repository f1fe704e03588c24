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
from torch import Tensor

from savile.lm.attention import Store
from savile.lm.model import LM
from savile.lm.tree import Layout, Paths, Tree, build, plan


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
    layout = plan(tree, lm.device, lm.root_tokens)
    layout.keep = {}
    logits = lm.logits(tree, tree.ends, layout)
    store = _store(tree, layout, layout.keep, max_new_tokens)
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
            running, tokens = running[alive], tokens[kept]
            store.retain(kept)
        logits = lm.step(tokens, store)
    return answers


def end_tokens(lm: LM) -> frozenset[int]:
    """Return the ids that end an answer: the template's, the tokenizer's and the model's own."""
    stops = {lm.template.end, lm.tokenizer.eos_token_id}
    own = lm.model.generation_config.eos_token_id
    stops.update(own if isinstance(own, list) else [own])
    return frozenset(int(s) for s in stops if s is not None)


def _store(tree: Tree, layout: Layout, kept: dict[int, tuple[Tensor, Tensor]], room: int) -> Store:
    """Split kept keys and values into the shared stem and each prompt's own, with room for
    answers."""
    p = layout.stem
    root = p - tree.stem
    own = [[n + root for n in tree.path(int(end)) if n >= tree.stem] for end in tree.ends]
    longest = max(map(len, own))
    rows = np.zeros((len(own), longest), dtype=np.int64)
    for row, path in enumerate(own):
        rows[row, : len(path)] = path
    device = layout.depth.device
    index = torch.from_numpy(rows).to(device)
    store = Store(
        stem_keys={},
        stem_values={},
        keys={},
        values={},
        lengths=torch.tensor([len(path) for path in own], device=device),
        stem_depth=p,
    )
    for layer, (k, v) in kept.items():
        store.stem_keys[layer], store.stem_values[layer] = k[:, :p], v[:, :p]
        for held, packed in ((store.keys, k), (store.values, v)):
            heads, _, width = packed.shape
            space = packed.new_zeros(heads, len(own), longest + room, width)
            space[:, :, :longest] = packed[:, index.flatten()].view(heads, len(own), longest, width)
            held[layer] = space
    return store


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
