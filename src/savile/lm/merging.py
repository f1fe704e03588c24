"""Merging adapters: one update made of several, without training.

    linear        t = sum_i w_i t_i
    ties          trim every t_i to its largest entries; elect a sign for each entry, that of the
                  sum; t = sum_i w_i t_i over those that have it, divided by how many have it
    dare_linear   drop entries with probability 1 - density, divide the others by density; linear
    dare_ties     the same, then the last two steps of ties

The t_i are LoRA's factors, as PEFT's `add_weighted_adapter` merges them (`merge_factors`), the
updates s B A themselves, as the papers mean it (`merge_updates`), or any tensors of equal names
such as fully tuned weights (`merge`), or how such tensors moved from where all of them started
(`merge_changes`: theta = theta_0 + t, t_i = theta_i - theta_0, the papers' task vectors).
`concatenated` is the exact weighted sum of updates.

Source: averaging of weights: Wortsman et al. 2022, arXiv 2203.05482; TIES: Yadav, Tam, Choshen,
Raffel, Bansal 2023, arXiv 2306.01708, section 4; DARE: Yu, Yu, Yu, Huang, Li 2024, arXiv
2311.03099, section 3; task vectors: Ilharco et al. 2022, arXiv 2212.04089. Weights inside ties,
trimming each tensor by itself (TIES trims the whole vector at once), and the names are PEFT's.

Averaging factors is not averaging updates: sum_i B_i times sum_j A_j has the cross terms B_i A_j.
Seeds of one technique start from different A, so merge their updates.

Cost: no training; memory for N copies of one tensor at a time; for `merge_updates` one singular
value decomposition a map.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from savile.errors import IntegrityError, Problem, UsageError
from savile.lm.lowrank import A, B

State = Mapping[str, Tensor]
Combine = Callable[[Tensor, Tensor], Tensor]
"""From N tensors [N, ...] and their weights [N] to one [...]."""
Combination = Literal["linear", "ties", "dare_linear", "dare_ties"]


def linear(tensors_N: Tensor, weights_N: Tensor) -> Tensor:
    """Return the weighted sum."""
    return (tensors_N * _beside(weights_N, tensors_N)).sum(0)


def trimmed(tensor: Tensor, density: float) -> Tensor:
    """Return a tensor with all but its largest entries zero: TIES, step 1.

    Args:
        tensor: any shape.
        density: share of the entries that stay, 0 to 1.
    """
    kept = torch.topk(tensor.abs().flatten(), int(density * tensor.numel())).indices
    mask = torch.zeros_like(tensor).flatten()
    mask[kept] = 1
    return tensor * mask.view(tensor.shape)


def dropped(tensor: Tensor, density: float, rng: torch.Generator) -> Tensor:
    """Return a tensor with entries dropped at random and the others divided by `density`, so that
    its expectation stays: DARE, equations 1 and 2.

    Args:
        tensor: any shape.
        density: probability that an entry stays, above 0 to 1 (the paper's 1 - p).
        rng: generator on the tensor's device.
    """
    mask = torch.bernoulli(torch.full_like(tensor, density), generator=rng)
    return tensor * mask / density


def agreeing(tensors_N: Tensor, weights_N: Tensor) -> Tensor:
    """Return the mean of the weighted entries whose sign is that of the unweighted sum: TIES,
    steps 2 and 3; zero where none has it."""
    elected = torch.where(tensors_N.sum(0) >= 0, 1.0, -1.0)
    agree_N = tensors_N.sign() == elected
    total = (tensors_N * _beside(weights_N, tensors_N) * agree_N).sum(0)
    return total / agree_N.sum(0).clamp(min=1)


def ties(tensors_N: Tensor, weights_N: Tensor, density: float) -> Tensor:
    """Trim, elect signs, average what agrees."""
    return agreeing(torch.stack([trimmed(t, density) for t in tensors_N]), weights_N)


def dare(
    tensors_N: Tensor, weights_N: Tensor, density: float, rng: torch.Generator, then: Combine
) -> Tensor:
    """Drop at random and rescale, then combine."""
    return then(torch.stack([dropped(t, density, rng) for t in tensors_N]), weights_N)


def combine(name: Combination, density: float, rng: torch.Generator) -> Combine:
    """Return a combination by PEFT's name.

    Args:
        name: `linear`, `ties`, `dare_linear` or `dare_ties`.
        density: share of the entries that stay, above 0 to 1; `linear` keeps all.
        rng: what DARE draws from, on the tensors' device.

    Raises:
        UsageError: the density is no such share.
    """
    if not 0 < density <= 1:
        problem = Problem(
            what="the share of the entries that stays is not between 0 and 1",
            where="density",
            found=str(density),
        )
        raise UsageError(problem)
    known: Mapping[Combination, Combine] = {
        "linear": linear,
        "ties": functools.partial(ties, density=density),
        "dare_linear": functools.partial(dare, density=density, rng=rng, then=linear),
        "dare_ties": functools.partial(dare, density=density, rng=rng, then=agreeing),
    }
    return known[name]


@torch.no_grad()
def merge(states: Sequence[State], weights: Sequence[float], how: Combine) -> dict[str, Tensor]:
    """Combine tensors of equal names and shapes, each name by itself.

    Raises:
        IntegrityError: names or shapes differ.
    """
    _same(states)
    return {
        name: how(torch.stack([s[name] for s in states]), states[0][name].new_tensor(weights))
        for name in states[0]
    }


@torch.no_grad()
def merge_changes(
    states: Sequence[State], start: State, weights: Sequence[float], how: Combine
) -> dict[str, Tensor]:
    """Return the start plus the combination of how far each state is from it.

    Args:
        states: tensors of the start's names and shapes.
        start: where all of them began.
        weights: of each state's change.
        how: the combination.

    Returns:
        Tensors of the start's types; computed in float32, so that short types round once.

    Raises:
        IntegrityError: names or shapes differ.
    """
    _same([start, *states])
    changes = [
        {name: state[name].float() - start[name].float() for name in start} for state in states
    ]
    moved = merge(changes, weights, how)
    return {name: (start[name].float() + moved[name]).to(start[name].dtype) for name in start}


@torch.no_grad()
def merge_factors(
    states: Sequence[State], scales: Sequence[float], weights: Sequence[float], how: Combine
) -> dict[str, Tensor]:
    """Combine LoRA's factors A and B apart, as PEFT does.

    Args:
        states: A and B of every map, of one rank.
        scales: s of each state, the factor of its B A.
        weights: of each state; both factors get the root of weight times scale.
        how: the combination.

    Returns:
        A state whose s is 1 (`lora_alpha` equal to `r`).

    Raises:
        IntegrityError: ranks differ.
        UsageError: the states are not LoRA's, of the same maps.
    """
    maps = _maps(states)
    whole = [weight * s for weight, s in zip(weights, scales, strict=True)]
    roots = [math.sqrt(abs(w)) for w in whole]
    signed = [math.copysign(root, w) for root, w in zip(roots, whole, strict=True)]
    merged: dict[str, Tensor] = {}
    for name in maps:
        for factor, own in ((A, signed), (B, roots)):
            key = f"{name}.{factor}"
            merged |= merge([{key: state[key]} for state in states], own, how)
    return merged


@torch.no_grad()
def merge_updates(
    states: Sequence[State],
    scales: Sequence[float],
    weights: Sequence[float],
    how: Combine,
    r: int,
) -> dict[str, Tensor]:
    """Combine the updates s B A and return the best factors of rank `r`.

    Args:
        states: A and B of every map, of any ranks.
        scales: s of each state.
        weights: of each state.
        how: the combination.
        r: rank of the result; what its singular values leave out is lost.

    Returns:
        A state whose s is 1 (`lora_alpha` equal to `r`).

    Raises:
        UsageError: the states are not LoRA's, of the same maps.
    """
    merged: dict[str, Tensor] = {}
    for name in _maps(states):
        updates = [
            s * state[f"{name}.{B}"] @ state[f"{name}.{A}"]
            for s, state in zip(scales, states, strict=True)
        ]
        whole = how(torch.stack(updates), updates[0].new_tensor(weights))
        u, singular, vt = torch.linalg.svd(whole, full_matrices=False)
        merged[f"{name}.{A}"] = vt[:r].contiguous()
        merged[f"{name}.{B}"] = u[:, :r] * singular[:r]
    return merged


@torch.no_grad()
def concatenated(
    states: Sequence[State], scales: Sequence[float], weights: Sequence[float]
) -> dict[str, Tensor]:
    """Return the exact weighted sum of updates; its rank is the sum of the ranks, its s is 1.

    Raises:
        UsageError: the states are not LoRA's, of the same maps.
    """
    merged: dict[str, Tensor] = {}
    whole = [weight * s for weight, s in zip(weights, scales, strict=True)]
    for name in _maps(states):
        merged[f"{name}.{A}"] = torch.cat([state[f"{name}.{A}"] for state in states])
        parts = [w * state[f"{name}.{B}"] for w, state in zip(whole, states, strict=True)]
        merged[f"{name}.{B}"] = torch.cat(parts, 1)
    return merged


def _beside(weights_N: Tensor, tensors_N: Tensor) -> Tensor:
    return weights_N.view(-1, *[1] * (tensors_N.dim() - 1))


def _same(states: Sequence[State]) -> None:
    """Refuse states whose names or shapes differ."""
    first = {name: tensor.shape for name, tensor in states[0].items()}
    others = [{name: tensor.shape for name, tensor in state.items()} for state in states[1:]]
    wrong = {name for own in others for name in {*own, *first} if own.get(name) != first.get(name)}
    if wrong:
        raise IntegrityError(
            Problem(
                what="adapters of different shapes cannot be merged like this",
                found=", ".join(sorted(wrong)[:5]),
                fix="Merge adapters of one technique, base, rank and set of targets.",
            )
        )


def _maps(states: Sequence[State]) -> list[str]:
    """Return the maps that every state changes by its A and B, and by nothing else."""
    maps = [name.removesuffix(f".{A}") for name in states[0] if name.endswith(f".{A}")]
    pairs = {f"{name}.{factor}" for name in maps for factor in (A, B)}
    wrong = sorted({name for state in states for name in pairs ^ set(state)})
    if wrong:
        raise UsageError(
            Problem(
                what="only pairs A and B of the same maps can be merged",
                found=", ".join(wrong[:5]),
                expected=f"names that end in {A} or {B}, the same in every adapter",
                fix="Merge adapters of lora that have the same targets.",
            )
        )
    return maps
