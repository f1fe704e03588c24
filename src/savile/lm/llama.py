"""The forward pass of the Llama family over the weights of transformers' own modules.

Llama, Mistral, Qwen2, Qwen3 and what else is built of the same parts: a norm, queries, keys and
values that are rotated by position, a map back, a norm, and a gated feed-forward. Here a layer is a
dozen operations, each with a backward pass of its own (`maps.py`, `kernels.py`, `attend.py`), and
the last layer computes queries and feed-forward at asked positions alone. Whatever is attached to
linear maps and blocks is called at its place.

Which model it is, is told by structure and by a probe (`probe.py`): one that gives other logits
than its own forward pass is not run here.

Source: Touvron et al. 2023, arXiv 2302.13971, section 2.2.

Cost: less memory traffic than the general path; the same FLOPs but for the last layer, whose
queries, output map and feed-forward are computed at asked positions.

Shape legend: N packed positions, M asked positions, H heads, K key-value heads, D width of a head,
W width of the layers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from savile.lm import attention
from savile.lm.changes import changed
from savile.lm.kernels import gated, norm, rotate
from savile.lm.layout import Layout, asking
from savile.lm.maps import mapped
from savile.lm.store import Store
from savile.lm.tree import Ints

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""From a layer's number, scaled queries [H, M, D], keys and values [K, N, D] to [M, H, D]."""
LAYER = ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp")
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")
POINTS = torch.linspace(-6, 6, 25)
"""Where an activation function must be that of the family."""
COMPUTED_TWICE: Final = "computed_twice"
"""Attribute of a layer's forward pass that keeps its input alone (`live.checkpointed`)."""


@final
class Llama:
    """The trunk of one model: from input vectors to what the output head reads."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Take over the modules; `fits` says whether they are the family's."""
        trunk: Any = model.get_decoder()  # type: ignore[no-untyped-call]
        self.layers = [_Layer(layer) for layer in trunk.layers]
        self._modules, self._head = list(trunk.layers), model.get_output_embeddings()  # type: ignore[no-untyped-call]
        self.norm, self.rotary = trunk.norm, trunk.rotary_emb
        config = model.config.get_text_config()
        windowed = getattr(config, "use_sliding_window", True)
        self.window: int | None = getattr(config, "sliding_window", None) if windowed else None
        """Positions from which on some layer may not see all before it."""

    @staticmethod
    def fits(model: PreTrainedModel) -> bool:
        """Return whether a model is built of the family's parts."""
        trunk: Any = model.get_decoder()  # type: ignore[no-untyped-call]
        head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        names = {name for name, _ in trunk.named_children()}
        return (
            {"layers", "norm", "rotary_emb"} <= names
            and type(head) is nn.Linear
            and len(list(head.parameters())) == 1
            and all(_fits(layer) for layer in trunk.layers)
        )

    def serves(self, deepest: int) -> bool:
        """Return whether every layer sees all positions up to the deepest, and nothing has been put
        into the model that is not computed here: a bias of the head, another forward pass of a
        layer."""
        if getattr(self._head, "bias", None) is not None:
            return False
        others = [vars(layer)["forward"] for layer in self._modules if "forward" in vars(layer)]
        if not all(hasattr(forward, COMPUTED_TWICE) for forward in others):
            return False
        return self.window is None or deepest < self.window

    def over(self, x: Tensor, layout: Layout, asked: Ints, first: int = 0) -> Tensor:
        """Return the normalized output of the last layer at asked positions of a tree, [M, W].

        Args:
            x: what goes into layer `first` at all positions but those of the prefix [N, W].
            layout: the tree's plan.
            asked: packed positions [M], ascending, without repetition.
            first: number of the first layer that is computed.
        """
        few, last = asking(layout, asked), len(self.layers) - 1

        def attend(number: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return attention.whole(q, k, v, few if number == last else layout, number)

        before = len(layout.depth) - len(x)
        numbers = range(first, len(self.layers))
        return self._normed(
            self._through(numbers, x, layout.depth[before:], few.asked - before, attend)
        )

    def before(self, first: int, x: Tensor, layout: Layout) -> Tensor:
        """Return what goes into layer `first` at all positions, [N, W]; arguments as of `over`."""

        def attend(number: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return attention.whole(q, k, v, layout, number)

        before = len(layout.depth) - len(x)
        return self._through(range(first), x, layout.depth[before:], None, attend)

    def parameters_before(self, first: int) -> int:
        """Return how many parameters the layers before `first` have."""
        return sum(p.numel() for layer in self._modules[:first] for p in layer.parameters())

    def after(self, x: Tensor, store: Store) -> Tensor:
        """Return the same after the new tokens of running sequences, [N, W].

        Args:
            x: their input vectors [N, W].
            store: what was computed before, with its step announced.
        """
        assert store.step is not None, "announce the step with `append` before it is computed"

        def attend(number: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return attention.one_step(q, k, v, store, number)

        numbers = range(len(self.layers))
        return self._normed(self._through(numbers, x, store.step.depth, None, attend))

    def _through(
        self, numbers: range, x: Tensor, depth: Tensor, asked: Tensor | None, attend: Attend
    ) -> Tensor:
        """Return what some layers make of x, one after another; the last one at asked positions."""
        cos, sin = (part[0] for part in self.rotary(x[None], depth[None]))
        for number in numbers:
            last = asked if number == len(self.layers) - 1 else None
            own = functools.partial(attend, number)
            run = functools.partial(self.layers[number], x, (cos, sin), last, own)
            twice = hasattr(self._modules[number].forward, COMPUTED_TWICE)
            x = checkpoint(run, use_reentrant=False) if twice else run()
        return x

    def _normed(self, x: Tensor) -> Tensor:
        return norm(x, self.norm.weight, self.norm.variance_epsilon)


class _Layer:
    """One decoder layer."""

    def __init__(self, layer: Any) -> None:
        self.before, self.between = layer.input_layernorm, layer.post_attention_layernorm
        self.attention, self.feed_forward = layer.self_attn, layer.mlp
        inside = dict(layer.self_attn.named_children())
        self.q_norm, self.k_norm = inside.get("q_norm"), inside.get("k_norm")

    def __call__(
        self,
        x: Tensor,
        turn: tuple[Tensor, Tensor],
        asked: Tensor | None,
        attend: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> Tensor:
        """Return the layer's output at the asked positions."""
        h = norm(x, self.before.weight, self.before.variance_epsilon)
        own, part = (x, h) if asked is None else (x[asked], h[asked])
        read = changed(self.attention, part, self._attended(h, part, turn, asked, attend))
        x = own + read
        h = norm(x, self.between.weight, self.between.variance_epsilon)
        return x + changed(self.feed_forward, h, self._fed(h))

    def _attended(
        self,
        h: Tensor,
        part: Tensor,
        turn: tuple[Tensor, Tensor],
        asked: Tensor | None,
        attend: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> Tensor:
        own, (cos, sin) = self.attention, turn
        if asked is None:
            q, k, v = mapped(h, [own.q_proj, own.k_proj, own.v_proj])
        else:
            (q,), (k, v) = mapped(part, [own.q_proj]), mapped(h, [own.k_proj, own.v_proj])
        q, k, v = (y.view(len(y), -1, own.head_dim) for y in (q, k, v))
        if self.q_norm is not None and self.k_norm is not None:
            q = norm(q, self.q_norm.weight, self.q_norm.variance_epsilon)
            k = norm(k, self.k_norm.weight, self.k_norm.variance_epsilon)
        q_turn = turn if asked is None else (cos[asked], sin[asked])
        q_cos, q_sin = (part * own.scaling for part in q_turn)
        out = attend(rotate(q, q_cos, q_sin), rotate(k, cos, sin), v.transpose(0, 1))
        return mapped(out.flatten(1), [own.o_proj])[0]

    def _fed(self, h: Tensor) -> Tensor:
        own = self.feed_forward
        gate, up = mapped(h, [own.gate_proj, own.up_proj])
        return mapped(gated(gate, up), [own.down_proj])[0]


def _fits(layer: nn.Module) -> bool:
    """Return whether a decoder layer has the family's parts and no others."""
    if {name for name, _ in layer.named_children()} != set(LAYER):
        return False
    attention, feed_forward = layer.get_submodule("self_attn"), layer.get_submodule("mlp")
    inside = {name for name, _ in attention.named_children()}
    norms = [layer.get_submodule(name) for name in (LAYER[0], LAYER[2])]
    norms += [attention.get_submodule(name) for name in inside - set(ATTENTION)]
    maps = [attention.get_submodule(n) for n in ATTENTION if n in inside]
    rest = dict(feed_forward.named_children())
    maps += [rest[name] for name in FEED_FORWARD if name in rest]
    return (
        inside in ({*ATTENTION}, {*ATTENTION, "q_norm", "k_norm"})
        and set(rest) == {*FEED_FORWARD, "act_fn"}
        and torch.allclose(rest["act_fn"](POINTS), functional.silu(POINTS))
        and all(type(m) is nn.Linear for m in maps)
        and all("variance_epsilon" in vars(m) for m in norms)
        and {"head_dim", "scaling"} <= set(vars(attention))
    )
