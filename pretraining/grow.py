"""Grow a trained small model into a large one that computes the same function.

Every unit of the residual stream, every head and 256 of the 384 hidden units exist twice, halved
where they are read; the added layer writes nothing at first. After Net2Net (Chen et al. 2015, arXiv
1511.05641) and bert2BERT (Chen et al. 2021, arXiv 2110.07143); the copies get 2 % of noise so that
they can part. `python pretraining/grow.py SMALL_CHECKPOINT LARGE_CHECKPOINT`
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from model import Block, Model
from train import SCHEDULES, load_checkpoint, make_optimizer, save_checkpoint

NOISE = 0.02


@torch.no_grad()
def grow_block(small: Block, large: Block, width: int) -> None:
    """Copy one layer, doubled in width and heads."""
    for name in ("norm_attention", "norm_feed_forward"):
        getattr(large, name).copy_(getattr(small, name).repeat(2))
    qkv = small.qkv.weight.view(3, width, width)
    large.qkv.weight.copy_((qkv.repeat(1, 2, 2) / 2).reshape(6 * width, 2 * width))
    large.out.weight.copy_(small.out.weight.repeat(2, 2) / 2)
    hidden, target = small.down.in_features, large.down.in_features
    twice = target - hidden
    units = torch.cat([torch.arange(hidden), torch.arange(twice)])
    halved = torch.ones(hidden)
    halved[:twice] = 0.5
    gate, up = small.gate_up.weight.chunk(2, 0)
    both = torch.cat([gate[units], up[units]])
    large.gate_up.weight.copy_(both.repeat(1, 2) / 2)
    large.down.weight.copy_((small.down.weight * halved)[:, units].repeat(2, 1))


@torch.no_grad()
def grow(small: Model, large: Model, noise: float = NOISE) -> None:
    """Copy the small model into the large one; extra layers come last and write nothing."""
    width = small.shape.width
    large.embedding.weight.copy_(small.embedding.weight.repeat(1, 2))
    large.norm.copy_(small.norm.repeat(2) / 2)
    for index, block in enumerate(large.blocks):
        if index < small.shape.layers:
            grow_block(small.blocks[index], block, width)
        else:
            block.out.weight.zero_()
            block.down.weight.zero_()
    for parameter in large.parameters():
        if noise and parameter.dim() == 2:
            parameter.add_(torch.randn_like(parameter) * parameter.std() * noise)


def main() -> None:
    """Grow one checkpoint into another, which starts at step 0."""
    torch.manual_seed(0)
    small, large = Model(SCHEDULES["small"].shape), Model(SCHEDULES["large"].shape)
    load_checkpoint(Path(sys.argv[1]), small, make_optimizer(small, 0.0))
    ids = torch.randint(6, 1500, (2, 64))
    grow(small, large, noise=0.0)
    difference = (small.logits(ids) - large.logits(ids)).abs().max().item()
    grow(small, large)
    print(f"largest difference of logits before the noise: {difference:.2e}")
    target = Path(sys.argv[2])
    target.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(target, large, make_optimizer(large, 0.0), 0, 0)


if __name__ == "__main__":
    main()
