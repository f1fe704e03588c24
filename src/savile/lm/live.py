"""How much memory a computation holds, counted operation by operation; and one that holds less.

A formula of widths would have to know the engine, the delta and the family; a few rows tell all of
it, and what holds for a few rows holds for many, since everything but the weights grows with them.

Cost: some microseconds an operation while it is counted. Memory that an operation takes and gives
back inside itself is not seen.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from savile.lm.llama import COMPUTED_TWICE
from savile.lm.model import LM


class Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes that operations inside the context allocate and that are alive at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: int = 0
        """Alive at this moment."""
        self.peak: int = 0
        """The most that were alive at once."""
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation and count the storages it made; views and arguments are none."""
        out = func(*args, **(kwargs or {}))
        new = {t.untyped_storage()._cdata: t.untyped_storage() for t in _tensors((out,))}
        for key in self._known.keys() & new.keys():
            del new[key]
        if new:
            for tensor in _tensors((args, (kwargs or {}).values())):
                new.pop(tensor.untyped_storage()._cdata, None)
        for key, storage in new.items():
            self._count(key, storage)
        self.peak = max(self.peak, self.now)
        return out

    def _count(self, key: int, storage: Any) -> None:
        size = storage.nbytes()

        def gone(_: Any) -> None:
            self.now -= size
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, gone)
        self.now += size


def held_by(work: Callable[[], object]) -> int:
    """Return the most bytes that `work` held at once in tensors it made."""
    live = Live()
    with live:
        work()
    return live.peak


@contextlib.contextmanager
def checkpointed(lm: LM) -> Iterator[None]:
    """Keep each decoder layer's input alone inside the context; its backward pass computes the
    layer again (Chen et al. 2016, arXiv 1604.06174): a third more work, the same gradients."""
    layers = list(lm.sites.layers().values())
    for layer in layers:
        layer.forward = _again(layer.forward)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Yield the tensors among an operation's values, which are lists at most."""
    for value in values:
        if type(value) in (Tensor, nn.Parameter):  # others may have no storage of their own
            yield value
        elif isinstance(value, Iterable) and not isinstance(value, str | Tensor):
            yield from _tensors(value)


def _again(forward: Callable[..., Any]) -> Callable[..., Any]:
    def recomputed(*given: Any, **named: Any) -> Any:
        return checkpoint(forward, *given, use_reentrant=False, **named)

    setattr(recomputed, COMPUTED_TWICE, True)
    return recomputed
