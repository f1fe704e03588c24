"""A fused Llama for fast CPU pretraining, its induction-friendly start, and the export.

The same function as `transformers.LlamaForCausalLM` (RMS norm, rotary positions, SwiGLU, tied
embeddings) with fused projections and a head that is computed only where there is a loss.

The start of `seed_heads` is still an ordinary Llama checkpoint: embedding dimension 0 is a
constant, which gives layer-0 heads content-free positional kernels through the rotary positions;
they write a sketch of the token they look at, and three layer-1 heads match the sketches and copy.
Without it the plateau before in-context learning (Olsson et al. 2022, arXiv 2209.11895) outlasts a
one-core budget.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

EPSILON = 1e-5
MAX_POSITIONS = 1024


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Size of a model; the head dimension is 32 in both."""

    vocabulary: int
    width: int
    layers: int
    feed_forward: int
    theta: float = 10_000.0

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        return self.width // 32


def rotary(length: int, head_width: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine tables of the rotary positions."""
    inverse = 1.0 / (theta ** (torch.arange(0, head_width, 2).float() / head_width))
    angles = torch.outer(torch.arange(length).float(), inverse)
    doubled = torch.cat([angles, angles], -1)
    return doubled.cos(), doubled.sin()


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions."""
    first, second = heads.chunk(2, -1)
    return heads * cos + torch.cat([-second, first], -1) * sin


class Block(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, hidden = shape.width, shape.feed_forward
        self.heads = shape.heads
        self.norm_attention = nn.Parameter(torch.ones(width))
        self.norm_feed_forward = nn.Parameter(torch.ones(width))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """Attention (written out: faster than SDPA on CPU here), then the gated feed-forward."""
        batch, length, width = x.shape
        y = functional.rms_norm(x, (width,), self.norm_attention, EPSILON)
        qkv = self.qkv(y).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        scores = q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5 + mask
        mixed = scores.softmax(-1).to(v.dtype) @ v
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        y = functional.rms_norm(x, (width,), self.norm_feed_forward, EPSILON)
        gate, up = self.gate_up(y).chunk(2, -1)
        return x + self.down(functional.silu(gate) * up)


class Model(nn.Module):
    """The language model with tied embeddings."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList([Block(shape) for _ in range(shape.layers)])
        self.norm = nn.Parameter(torch.ones(shape.width))
        cos, sin = rotary(MAX_POSITIONS, shape.width // shape.heads, shape.theta)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.causal = torch.zeros(0, 0)
        nn.init.normal_(self.embedding.weight, std=0.08)
        for block in self.blocks:
            for layer in (block.qkv, block.gate_up):
                nn.init.normal_(layer.weight, std=0.8 / shape.width**0.5)
            for layer in (block.out, block.down):
                scale = (2 * shape.layers * layer.in_features) ** 0.5
                nn.init.normal_(layer.weight, std=0.4 / scale)

    def forward(self, ids_BT: Tensor, blur_BTD: Tensor | None = None) -> Tensor:
        """Final hidden states; `blur_BTD` is added to the embeddings."""
        length = ids_BT.shape[1]
        hidden = self.embedding(ids_BT)
        if blur_BTD is not None:
            hidden = hidden + blur_BTD
        cos, sin = self.cos[:length].to(hidden.dtype), self.sin[:length].to(hidden.dtype)
        mask = self.mask(length)
        for block in self.blocks:
            hidden = block(hidden, cos, sin, mask)
        return functional.rms_norm(hidden, (self.shape.width,), self.norm, EPSILON)

    def mask(self, length: int) -> Tensor:
        """Causal mask, kept from call to call."""
        if self.causal.shape[0] != length:
            self.causal = torch.full((length, length), -math.inf).triu(1)
        return self.causal

    def logits(self, ids_BT: Tensor) -> Tensor:
        """Logits at every position."""
        return functional.linear(self(ids_BT), self.embedding.weight)

    def loss(
        self, ids_BT: Tensor, targets_BT: Tensor, weights_BT: Tensor, blur_BTD: Tensor | None = None
    ) -> Tensor:
        """Weighted mean cross-entropy; only weighted positions go through the head."""
        weights = weights_BT.reshape(-1)
        places = weights.nonzero().squeeze(1)
        hidden = self(ids_BT, blur_BTD).view(-1, self.shape.width)[places]
        logits = functional.linear(hidden, self.embedding.weight).float()
        losses = functional.cross_entropy(logits, targets_BT.reshape(-1)[places], reduction="none")
        return (losses * weights[places]).sum() / weights[places].sum()


def orthonormal(rows: int, width: int, generator: torch.Generator) -> Tensor:
    """Random orthonormal rows that do not read the constant dimension 0."""
    matrix = torch.linalg.qr(torch.randn(width, width, generator=generator))[0][:rows].clone()
    matrix[:, 0] = 0
    return matrix


@torch.no_grad()
def seed_heads(model: Model, constant: float = 0.25) -> None:
    """Give layers 0 and 1 a crude previous-token / match-and-copy circuit (see the module text)."""
    shape = model.shape
    width, head = shape.width, shape.width // shape.heads
    half = head // 2
    theta = shape.theta ** (-torch.arange(half).float() / half)
    model.embedding.weight[:, 0] = constant
    for block in model.blocks:
        block.qkv.weight[:, 0] = 0
        block.gate_up.weight[:, 0] *= 0.3
    size = (0.08**2 + constant**2 / width) ** 0.5
    first, second = model.blocks[0], model.blocks[1]
    # (tokens back, rotary pairs used, sharpness) of heads 0..2 of layer 0
    kernels = [(1, range(4), 7.0), (2, range(4), 7.0), (4, range(3, 9), 2.5)]
    x0 = constant / size
    for index, (back, pairs, sharpness) in enumerate(kernels):
        q = first.qkv.weight[index * head : (index + 1) * head]
        k = first.qkv.weight[width + index * head : width + (index + 1) * head]
        q.mul_(0.1)
        k.mul_(0.1)
        for pair in pairs:
            angle = float(theta[pair] * back)
            q[pair, 0] = sharpness * math.cos(angle) / x0
            q[pair + half, 0] = -sharpness * math.sin(angle) / x0
            k[pair, 0] = sharpness / x0
            k[pair + half, 0] = 0.0
    slow = [*range(half // 2, half), *range(half + half // 2, head)]  # low-frequency rotary pairs
    n = len(slow)
    generator = torch.Generator().manual_seed(1)
    sketch = orthonormal(n, width, generator)
    places = orthonormal(3 * n, width, generator).view(3, n, width)
    for index in range(3):
        rows = slice(index * head, (index + 1) * head)
        values = first.qkv.weight[2 * width :]
        values[rows].mul_(0.1)
        first.out.weight[:, rows].mul_(0.1)
        values[index * head : index * head + n] += sketch
        strength = size * (1.5 if index < 2 else 4.0)
        first.out.weight[:, index * head : index * head + n] += places[index].T * strength
    matches = [(sketch, places[0]), (places[0], places[1]), (places[2], places[2])]
    for index, (query, key) in enumerate(matches):
        q = second.qkv.weight[index * head : (index + 1) * head]
        k = second.qkv.weight[width + index * head : width + (index + 1) * head]
        q.mul_(0.1)
        k.mul_(0.1)
        q[slow] += 2.0 * query
        k[slow] += 2.0 * key
        copy = orthonormal(head, width, generator)
        rows = slice(2 * width + index * head, 2 * width + (index + 1) * head)
        second.qkv.weight[rows] = copy
        second.out.weight[:, index * head : (index + 1) * head] = copy.T * size * 2


def to_hugging_face(model: Model, *, pad: int, bos: int, eos: int) -> LlamaForCausalLM:
    """Copy the weights into an ordinary `LlamaForCausalLM`."""
    shape = model.shape
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=MAX_POSITIONS,
        rms_norm_eps=EPSILON,
        tie_word_embeddings=True,
        rope_theta=shape.theta,
        pad_token_id=pad,
        bos_token_id=bos,
        eos_token_id=eos,
    )
    target = LlamaForCausalLM(config)
    state = {"model.embed_tokens.weight": model.embedding.weight, "model.norm.weight": model.norm}
    state["lm_head.weight"] = model.embedding.weight
    for index, block in enumerate(model.blocks):
        prefix = f"model.layers.{index}."
        q, k, v = block.qkv.weight.view(3, shape.width, shape.width)
        gate, up = block.gate_up.weight.chunk(2, 0)
        state[prefix + "self_attn.q_proj.weight"] = q
        state[prefix + "self_attn.k_proj.weight"] = k
        state[prefix + "self_attn.v_proj.weight"] = v
        state[prefix + "self_attn.o_proj.weight"] = block.out.weight
        state[prefix + "mlp.gate_proj.weight"] = gate
        state[prefix + "mlp.up_proj.weight"] = up
        state[prefix + "mlp.down_proj.weight"] = block.down.weight
        state[prefix + "input_layernorm.weight"] = block.norm_attention
        state[prefix + "post_attention_layernorm.weight"] = block.norm_feed_forward
    result = target.load_state_dict(
        {key: value.detach().float().clone() for key, value in state.items()}, strict=False
    )
    if result.unexpected_keys or result.missing_keys:
        raise ValueError(f"the export does not fit LlamaForCausalLM: {result}")
    return target
