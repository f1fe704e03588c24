"""The equality gate: no speed is reported unless both sides compute the same thing.

In fp32, on the same rows in the same order: loss and gradient of the first step from a state in
which no trained tensor is zero, then the loss curve of some steps from the ordinary start. What
one side alone trains has to have no gradient: the bias of our reward head, which a difference of
two rewards does not know.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from case import Case
from grid import OPTIONS
from ours import Ours
from peer import Peer

STEP_TOLERANCE = 1e-4
CURVE_TOLERANCE = 1e-3
ENCODER = "prompt_encoder.default."
EMBEDDING, VECTORS = "embedding.weight", "prompt_embeddings"
"""PEFT's name of virtual tokens, and ours where they are all that trains."""
HEADS = {"score.modules_to_save": "reward.weight"}
"""Our names of the heads that train beside the delta."""


def gate(case: Case) -> dict[str, Any]:
    """Return the gate's record; `passed` says whether figures may follow."""
    ours = Ours(case, dtype="float32")
    peer = Peer(case, OPTIONS[f"exact {case.objective}"], log_every=1)
    own_loss, own = ours.first_step(ours.random_state())
    peer_loss, theirs = first_step(peer, ours.random_state())
    assert own.keys() >= theirs.keys(), own.keys() ^ theirs.keys()
    cancels = {name: own.pop(name) for name in own.keys() - theirs.keys()}
    assert all(norm({name: g}) <= STEP_TOLERANCE * norm(own) for name, g in cancels.items())
    worst = max(distance(own[name], theirs[name]) for name in own)
    own_curve = ours.run()[1]
    set_state(peer, ours.whole_start())
    peer_curve = peer.run()[1]
    assert len(own_curve) == len(peer_curve) == len(case.rows) // case.batch_size
    curve = max(abs(a - b) / abs(b) for a, b in zip(own_curve, peer_curve, strict=True))
    step = abs(own_loss - peer_loss) / abs(peer_loss)
    return {
        "kind": "gate",
        "passed": max(step, worst) <= STEP_TOLERANCE and curve <= CURVE_TOLERANCE,
        "rows_a_step": case.batch_size,
        "first_loss": [own_loss, peer_loss],
        "first_loss_relative": step,
        "gradient_norm": [norm(own), norm(theirs)],
        "gradient_relative_worst_tensor": worst,
        "tensors": len(own),
        "curve_steps": len(own_curve),
        "curve_relative_worst_step": curve,
        "curve": [[round(a, 4), round(b, 4)] for a, b in zip(own_curve, peer_curve, strict=True)],
    }


def first_step(peer: Peer, state: dict[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
    """Return the peer's loss and gradient of its first batch from a given state."""
    set_state(peer, state)
    trainer = peer.trainer
    inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in parameters(peer).items()}
    trainer.model.zero_grad()
    return float(loss.detach()), gradients


def parameters(peer: Peer) -> dict[str, Tensor]:
    """Return what the peer trains under our names."""
    found = {
        our_name(name): parameter
        for name, parameter in peer.trainer.model.named_parameters()
        if parameter.requires_grad
    }
    return {VECTORS: found[EMBEDDING]} if list(found) == [EMBEDDING] else found


def our_name(name: str) -> str:
    """Return our name of a tensor that the peer trains.

    >>> our_name("base_model.model.model.layers.0.mlp.up_proj.lora_A.default.weight")
    'model.layers.0.mlp.up_proj.lora_A'
    >>> our_name("prompt_encoder.default.embedding.weight")
    'embedding.weight'
    """
    name = name.removeprefix("base_model.model.").removeprefix(ENCODER)
    name = name.removesuffix(".default.weight")
    return HEADS.get(name, name)


def set_state(peer: Peer, state: dict[str, Tensor]) -> None:
    """Give the peer our state."""
    with torch.no_grad():
        for name, parameter in parameters(peer).items():
            parameter.copy_(state[name])


def distance(a: Tensor, b: Tensor) -> float:
    """Return |a - b| / |b|."""
    return float((a - b).norm() / b.norm().clamp(min=1e-30))


def norm(tensors: dict[str, Tensor]) -> float:
    """Return the Euclidean norm of all tensors together."""
    return float(torch.cat([t.flatten() for t in tensors.values()]).norm())
