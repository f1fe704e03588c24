"""Batches drawn on the fly: documents of a step, and the blur of their word vectors."""

from __future__ import annotations

import random
from typing import NamedTuple

import torch
from tokenizer import PAD, SPECIALS, DocumentEncoder
from torch import Tensor
from world import IN_CONTEXT, draw_family

BATCH_TOKENS = 2048
PARTS = 2  # a batch is drawn in two parts, by two processes or one after the other
BLURRED = 0.5  # share of the in-context documents with other word vectors
BLUR = 0.8  # size of the offsets, in standard deviations of the embeddings


class Batch(NamedTuple):
    """One part of a step; `blurred` says which documents get other word vectors."""

    ids: Tensor
    targets: Tensor
    weights: Tensor
    blurred: Tensor


def draw_batch(
    encoder: DocumentEncoder, rng: random.Random, length: int, curriculum: float
) -> Batch:
    """Draw a part of a step; 30 % of documents also model the tickets, many are blurred."""
    rows = BATCH_TOKENS // PARTS // length
    ids = torch.full((rows, length + 1), PAD)
    weights = torch.zeros(rows, length + 1)
    blurred = torch.zeros(rows, dtype=torch.bool)
    for row in range(rows):
        family = draw_family(rng, curriculum)
        document = family(rng, length)
        blurred[row] = family in IN_CONTEXT and rng.random() < BLURRED
        user_weight = 0.1 if rng.random() < 0.3 else 0.0
        tokens, token_weights = encoder.encode(document, length + 1, user_weight)
        ids[row, : len(tokens)] = torch.tensor(tokens)
        weights[row, : len(tokens)] = torch.tensor(token_weights)
    return Batch(ids[:, :-1], ids[:, 1:], weights[:, 1:], blurred)


def draw_blur(batch: Batch, embedding: Tensor, seed: int) -> Tensor | None:
    """Offsets that turn half of the words of a blurred document into words never seen.

    The offset of a word is the same at all its places in a document and new in every document. So
    the circuit that finds an earlier ticket about the same item must compare vectors in general;
    without this it served the trained items only (4-way 0.95 against 0.39 on held-out items).
    """
    if not batch.blurred.any():
        return None
    generator = torch.Generator().manual_seed(seed)
    n, width = embedding.shape
    bank = torch.randn(n, width, generator=generator) * embedding.detach()[:, 1:].std() * BLUR
    bank[torch.rand(n, generator=generator) < 0.5] = 0.0
    bank[:, 0] = 0.0  # the constant dimension
    shifts = torch.randint(n, (len(batch.ids), 1), generator=generator)
    offsets = bank[(batch.ids + shifts) % n]
    words = (batch.ids >= len(SPECIALS)) & batch.blurred[:, None]
    return offsets * words[:, :, None]
