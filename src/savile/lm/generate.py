"""Generation for many prompts at once: the shared prefix is computed once, finished rows leave.

The prompts form a tree; after its forward pass the keys and values of the stem stay shared and
those of each prompt's own tokens are laid side by side, with room for the answers. No padding
enters a sequence, so the answers equal those of single runs (up to rounding of near-ties).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, Protocol

import numpy as np
import torch
from torch import Tensor

from savile.lm.model import LM
from savile.lm.store import Step, after_prompts
from savile.lm.tree import Paths, build

TOKENS_PER_TREE: Final = 4096
"""Own tokens of one tree of prompts: large enough to fill the cores, small enough for the
cache."""
ROWS_PER_TREE: Final = 64
"""Most questions of one tree; generation holds keys and values for all of them."""

Pick = Callable[[Tensor, Sequence[int]], list[int]]
"""Chooses the next token of every running answer from its logits [A, V]; the second argument says
which answers run."""
TreePick = Callable[[Sequence[int], Tensor, Sequence[int]], list[int]]
"""The same for a tree, whose answers are some of all: the first argument numbers them."""
Complete = Callable[[Sequence[int]], bool]
"""Whether an answer's ids are all of it although no end token came."""


class Masks(Protocol):
    """What refuses tokens, answer by answer."""

    def over(self, pick: TreePick) -> TreePick:
        """Return `pick` among the tokens that are left."""


def greedy(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    complete: Complete | None = None,
    masks: Masks | None = None,
) -> list[list[int]]:
    """Return the likeliest ids after each prompt, the end token left out.

    Args:
        lm: the model, with whatever delta is attached.
        prompts: token ids, at least one each.
        max_new_tokens: where an answer is cut that has not ended by itself; the end of the context
            cuts it earlier.
        complete: ends answers too.
        masks: what refuses tokens; its states are those of the prompts, and are used up.
    """

    def pick(_: Sequence[int], logits: Tensor, __: Sequence[int]) -> list[int]:
        return likeliest(logits)

    own = pick if masks is None else masks.over(pick)
    written = _in_trees(lm, prompts, max_new_tokens, own, complete)
    return [without_end(lm, ids) for ids in written]


def sample(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    seeds: Sequence[int],
    temperature: float = 1.0,
    top_p: float = 1.0,
    complete: Complete | None = None,
    masks: Masks | None = None,
) -> list[list[int]]:
    """Return ids drawn after each prompt, with the end token of an answer that ended.

    Every answer draws from a generator of its own, so it does not depend on its neighbors. Prompts
    go into trees of bounded size.

    Args:
        lm: the model, with whatever delta is attached.
        prompts: token ids, at least one each; the same prompt may stand there many times, and is
            computed once where it stands beside itself.
        max_new_tokens: as for `greedy`.
        seeds: one for each prompt.
        temperature: above 0; logits are divided by it.
        top_p: draw from the fewest tokens whose probabilities reach it (nucleus sampling, Holtzman
            et al. 2019, arXiv 1904.09751).
        complete: ends answers too.
        masks: as for `greedy`.
    """
    draws = [random.Random(seed) for seed in seeds]

    def pick(rows: Sequence[int], logits: Tensor, running: Sequence[int]) -> list[int]:
        chances = [draws[rows[n]].random() for n in running]
        return drawn(logits, chances, temperature=temperature, top_p=top_p)

    own = pick if masks is None else masks.over(pick)
    return _in_trees(lm, prompts, max_new_tokens, own, complete)


def likeliest(logits: Tensor) -> list[int]:
    """Return the number of the highest of each row of logits [A, V], the first of equals."""
    on_cpu = logits.device.type == "cpu"  # NumPy's search is 20 times as fast there
    best: list[int] = (logits.numpy() if on_cpu else logits).argmax(-1).tolist()
    return best


def drawn(
    logits: Tensor, chances: Sequence[float], *, temperature: float, top_p: float = 1.0
) -> list[int]:
    """Return one choice for each row of logits.

    Args:
        logits: [A, V].
        chances: uniform on [0, 1), one a row; the likeliest choice takes the smallest ones, and of
            choices that are as likely the first.
        temperature: above 0.
        top_p: draw from the fewest choices whose odds reach it.
    """
    odds = (logits.double() / temperature).softmax(-1)
    ranked = _descending(odds)
    earlier = ranked.cumsum(-1) - ranked
    ends = ranked.masked_fill(earlier >= top_p, 0.0).cumsum(-1)
    at = torch.tensor(chances, device=odds.device, dtype=odds.dtype)
    place = torch.searchsorted(ends, at[:, None] * ends[:, -1:], right=True)
    rank = place.clamp(max=odds.shape[-1] - 1)
    value = ranked.gather(-1, rank)
    above, below = odds > value, odds < value
    rows, choices = (~(above | below)).nonzero(as_tuple=True)  # as likely as the one drawn
    first = torch.searchsorted(rows, torch.arange(len(odds), device=rows.device))
    return choices[first + rank.squeeze(-1) - above.sum(-1)].tolist()


def _descending(odds: Tensor) -> Tensor:
    """Return every row's odds, highest first. On a CPU numpy sorts values alone eleven times as
    fast as torch sorts them with their places (64 rows of 8k)."""
    if odds.device.type != "cpu":
        return odds.sort(-1, descending=True).values
    return torch.from_numpy(np.sort(odds.numpy(), axis=-1)).flip(-1)


def _in_trees(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    pick: TreePick,
    complete: Complete | None,
) -> list[list[int]]:
    """Generate tree by tree; `pick` is told which prompts the tree's are. The end of the context
    limits each answer by itself: no row limits another."""
    room = lm.context - lm.root_tokens
    answers: list[list[int]] = [[] for _ in prompts]
    for rows in rows_of_trees(prompts):
        limits = [min(max_new_tokens, max(room - len(prompts[row]), 1)) for row in rows]
        for limit in set(limits):  # one, but near the end of the context
            some = [row for row, own in zip(rows, limits, strict=True) if own == limit]
            own_pick = partial(pick, some)
            ids = generate(lm, [prompts[row] for row in some], limit, own_pick, complete)
            for row, written in zip(some, ids, strict=True):
                answers[row] = written
    return answers


def rows_of_trees(prompts: Sequence[Sequence[int]], times: int = 1) -> Iterator[list[int]]:
    """Yield the row numbers of one tree after the other, prompts of like length together; what all
    share counts once in a tree, so rows count their own tokens.

    Args:
        prompts: token ids.
        times: answers to each of them.
    """
    ids = [list(prompt) for prompt in prompts]
    ends = (min(ids), max(ids)) if ids else ([], [])
    shared = next((i for i, (a, b) in enumerate(zip(*ends, strict=False)) if a != b), len(ends[0]))
    pack: list[int] = []
    used = 0
    for row in sorted(range(len(ids)), key=lambda row: len(ids[row])):
        own = times * (len(ids[row]) - shared + 32)
        full = times * (len(pack) + 1) > ROWS_PER_TREE
        if pack and (used + own > TOKENS_PER_TREE or full):
            yield pack
            pack, used = [], 0
        pack.append(row)
        used += own
    if pack:
        yield pack


@torch.no_grad()
def generate(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    pick: Pick,
    complete: Complete | None = None,
) -> list[list[int]]:
    """Return the ids that `pick` chooses after each prompt, with the end token where one came."""
    if not prompts:
        return []
    stops = end_tokens(lm)

    def ended(ids: Sequence[int]) -> bool:
        return ids[-1] in stops or (complete is not None and complete(ids))

    if not lm.uses_tree:
        return [
            _plain(lm, prompt, max_new_tokens, ended, lambda logits, n=n: pick(logits, [n])[0])  # type: ignore[misc]
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
        for row, token in zip(running, chosen, strict=True):
            answers[row].append(token)
        alive = np.asarray([not ended(answers[row]) for row in running])
        if not alive.any() or written + 1 == max_new_tokens:
            break
        if not alive.all():
            kept = torch.from_numpy(np.flatnonzero(alive)).to(lm.device)
            running, tokens, lengths = running[alive], tokens[kept], lengths[kept]
            store.retain(kept)
        longest = int(lengths.max())
        slots = torch.arange(longest + 1, device=lm.device)
        unseen = torch.zeros(len(running), len(slots), device=lm.device)
        step = Step(
            rows=torch.arange(len(running), device=lm.device),
            slots=lengths,
            depth=lengths + store.stem_depth,
            deepest=longest + store.stem_depth,
            mask=unseen.masked_fill_(slots > lengths[:, None], float("-inf")),
            places=None,
            width=1,
        )
        store.append(step)
        logits = lm.step(tokens, store)
        lengths = lengths + 1
    return answers


def end_tokens(lm: LM) -> frozenset[int]:
    """Return the ids that end an answer: the template's, the tokenizer's and the model's own."""
    stops = {lm.template.end, lm.tokenizer.eos_token_id}
    own = lm.model.generation_config.eos_token_id
    stops.update(own if isinstance(own, list) else [own])
    return frozenset(int(s) for s in stops if s is not None)


def without_end(lm: LM, ids: list[int]) -> list[int]:
    """Return an answer's ids without the token that ended it."""
    return ids[:-1] if ids and ids[-1] in end_tokens(lm) else ids


def _plain(
    lm: LM,
    prompt: Sequence[int],
    limit: int,
    ended: Complete,
    pick: Callable[[Tensor], int],
) -> list[int]:
    """Generate for one prompt on a model that takes no tree: every step computes the whole
    sequence."""
    answer: list[int] = []
    for _ in range(limit):
        tree = build([Paths([*prompt, *answer], [])])
        answer.append(pick(lm.logits(tree, tree.ends)))
        if ended(answer):
            break
    return answer
