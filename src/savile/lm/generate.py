"""Generation for many prompts at once: the shared prefix is computed once, finished rows leave.

The prompts form a tree; after its forward pass the keys and values of the stem stay shared and
those of each prompt's own tokens are laid side by side, with room for the answers. No padding
enters a sequence, so the answers equal those of single runs (up to rounding of near-ties).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

import numpy as np
import torch
from torch import Tensor

from savile.lm.model import LM
from savile.lm.store import after_prompts
from savile.lm.tree import Paths, build

TOKENS_PER_TREE: Final = 4096
"""Own tokens of one tree of prompts: large enough to fill the cores, small enough for the
cache."""
ROWS_PER_TREE: Final = 64
"""Most questions of one tree; generation holds keys and values for all of them."""

Pick = Callable[[Tensor, Sequence[int]], list[int]]
"""Chooses the next token of every running answer from its logits [A, V]; the second argument says
which answers run."""


def greedy(lm: LM, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
    """Return the likeliest ids after each prompt, the end token left out.

    Args:
        lm: the model, with whatever delta is attached.
        prompts: token ids, at least one each.
        max_new_tokens: where an answer is cut that has not ended by itself.
    """
    stops = end_tokens(lm)
    written = generate(lm, prompts, max_new_tokens, lambda logits, _: logits.argmax(-1).tolist())
    return [ids[:-1] if ids and ids[-1] in stops else ids for ids in written]


def sample(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    seeds: Sequence[int],
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> list[list[int]]:
    """Return ids drawn after each prompt, with the end token of an answer that ended.

    Every answer draws from a generator of its own, so it does not depend on its neighbors. Prompts
    go into trees of bounded size.

    Args:
        lm: the model, with whatever delta is attached.
        prompts: token ids, at least one each; the same prompt may stand there many times.
        max_new_tokens: where an answer is cut that has not ended by itself; the end of the context
            cuts it earlier.
        seeds: one for each prompt.
        temperature: above 0; logits are divided by it.
        top_p: draw from the fewest tokens whose probabilities reach it (nucleus sampling, Holtzman
            et al. 2019, arXiv 1904.09751).
    """
    draws = [random.Random(seed) for seed in seeds]

    def pick(rows: Sequence[int], logits: Tensor, running: Sequence[int]) -> list[int]:
        odds = (logits.double() / temperature).softmax(-1)
        odds, tokens = odds.sort(-1, descending=True)
        before = odds.cumsum(-1) - odds
        odds = odds.masked_fill(before >= top_p, 0.0)
        ends = odds.cumsum(-1)
        at = torch.tensor([draws[rows[n]].random() for n in running], device=odds.device)
        place = torch.searchsorted(ends, at[:, None] * ends[:, -1:], right=True)
        chosen = place.clamp(max=odds.shape[-1] - 1)
        return tokens.gather(-1, chosen).squeeze(-1).tolist()

    room = lm.context - lm.root_tokens
    answers: list[list[int]] = [[] for _ in prompts]
    for rows in rows_of_trees(prompts):
        limits = [min(max_new_tokens, max(room - len(prompts[row]), 1)) for row in rows]
        for limit in set(limits):
            some = [row for row, own in zip(rows, limits, strict=True) if own == limit]
            drawn = generate(lm, [prompts[row] for row in some], limit, partial(pick, some))
            for row, ids in zip(some, drawn, strict=True):
                answers[row] = ids
    return answers


def rows_of_trees(prompts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Yield the row numbers of one tree after the other, prompts of like length together; what all
    share counts once in a tree, so rows count their own tokens."""
    ids = [list(prompt) for prompt in prompts]
    ends = (min(ids), max(ids)) if ids else ([], [])
    shared = next((i for i, (a, b) in enumerate(zip(*ends, strict=False)) if a != b), len(ends[0]))
    pack: list[int] = []
    used = 0
    for row in sorted(range(len(ids)), key=lambda row: len(ids[row])):
        own = len(ids[row]) - shared + 32
        if pack and (used + own > TOKENS_PER_TREE or len(pack) >= ROWS_PER_TREE):
            yield pack
            pack, used = [], 0
        pack.append(row)
        used += own
    if pack:
        yield pack


@torch.no_grad()
def generate(
    lm: LM, prompts: Sequence[Sequence[int]], max_new_tokens: int, pick: Pick
) -> list[list[int]]:
    """Return the ids that `pick` chooses after each prompt, with the end token where one came."""
    if not prompts:
        return []
    stops = end_tokens(lm)
    if not lm.uses_tree:
        return [
            _plain(lm, prompt, max_new_tokens, stops, lambda logits, n=n: pick(logits, [n])[0])  # type: ignore[misc]
            for n, prompt in enumerate(prompts)
        ]
    tree = build([Paths(prompt, []) for prompt in prompts])
    layout = lm.plan(tree)
    layout.keep = {}
    logits = lm.logits(tree, tree.ends, layout)
    store = after_prompts(tree, layout, max_new_tokens)
    lengths = torch.tensor(store.prompt_slots, device=lm.device)
    answers: list[list[int]] = [[] for _ in prompts]
    running = np.arange(len(prompts))
    for written in range(max_new_tokens):
        chosen = pick(logits, running.tolist())
        tokens = torch.tensor(chosen, device=lm.device)
        alive = np.asarray([token not in stops for token in chosen])
        for row, token in zip(running, chosen, strict=True):
            answers[row].append(token)
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


def _plain(
    lm: LM,
    prompt: Sequence[int],
    limit: int,
    stops: frozenset[int],
    pick: Callable[[Tensor], int],
) -> list[int]:
    """Generate for one prompt on a model that takes no tree: every step computes the whole
    sequence."""
    answer: list[int] = []
    for _ in range(limit):
        tree = build([Paths([*prompt, *answer], [])])
        answer.append(pick(lm.logits(tree, tree.ends)))
        if answer[-1] in stops:
            break
    return answer
