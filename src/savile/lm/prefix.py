"""What stands before every sequence: keys and values in every layer, and virtual tokens.

In a tree, keys and values of prefix tuning are further keys of the stem (`attention.py`); a model
that runs on plain batches gets them as a cache that is already filled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import (
    DynamicIndexedLayer,
    DynamicLayer,
    LinearAttentionCacheLayerMixin,
)

from savile.lm.tree import KeysValues


class Root(NamedTuple):
    """Virtual tokens before every sequence."""

    tokens: int
    """n, how many there are."""
    vectors: Callable[[], Tensor]
    """Returns them [n, D]; called once a forward pass, so that each pass has a graph of its own."""


class Prefix(NamedTuple):
    """Keys and values before every sequence."""

    tokens: int
    """n, how many positions they take."""
    layers: Callable[[], Sequence[KeysValues]]
    """Returns them, per layer [K, n, D] each; called once a forward pass, so that each pass has a
    graph of its own."""

    def cache(self, rows: int, dtype: torch.dtype) -> DynamicCache:
        """Return transformers' cache filled with them, the same in each of `rows` rows."""
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self.layers()):
            key, value = (x.to(dtype).expand(rows, -1, -1, -1) for x in (keys, values))
            cache.update(key, value, layer)
        return cache


def recorded(
    model: PreTrainedModel, vectors: Tensor, depth: Tensor, extra: Mapping[str, Any]
) -> list[KeysValues]:
    """Return what the layers keep of one sequence, [K, n, D] each; layers that keep more than keys
    and values (a state, an index) are left out.

    Args:
        model: the causal model.
        vectors: the sequence's input vectors [1, n, D].
        depth: its position ids [1, n].
        extra: what tells attention about the rest.
    """
    cache = DynamicCache(config=model.config)
    cache.activate_past_recording()  # type: ignore[no-untyped-call]  # also behind a window
    model(
        inputs_embeds=vectors,
        position_ids=depth,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
        **extra,
    )
    return [
        (layer.keys[0], layer.values[0])
        for layer in cache.layers
        if isinstance(layer, DynamicLayer)
        and not isinstance(layer, LinearAttentionCacheLayerMixin | DynamicIndexedLayer)
        and layer.keys is not None
        and layer.values is not None
    ]
