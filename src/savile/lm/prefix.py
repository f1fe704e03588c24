"""Keys and values that stand before every sequence, in every layer: the root of prefix tuning.

In a tree they are further keys of the stem (`attention.py`); a model that runs on plain batches
gets them as a cache that is already filled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import (
    DynamicIndexedLayer,
    DynamicLayer,
    LinearAttentionCacheLayerMixin,
)

from savile.lm.tree import KeysValues


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


def recorder(config: PreTrainedConfig) -> DynamicCache:
    """Return an empty cache that keeps every position, also where a layer sees but a window."""
    cache = DynamicCache(config=config)
    cache.activate_past_recording()  # type: ignore[no-untyped-call]
    return cache


def recorded(cache: DynamicCache) -> list[KeysValues]:
    """Return what the layers kept of one sequence, [K, n, D] each; layers that keep more than keys
    and values (a state, an index) are left out."""
    return [
        (layer.keys[0], layer.values[0])
        for layer in cache.layers
        if isinstance(layer, DynamicLayer)
        and not isinstance(layer, LinearAttentionCacheLayerMixin | DynamicIndexedLayer)
        and layer.keys is not None
        and layer.values is not None
    ]
