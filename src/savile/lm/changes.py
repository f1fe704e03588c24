"""How a delta changes what linear maps and blocks give: hooks, so the base stays as it is.

A forward pass that does not call a module (`llama.py`) asks here what is attached to it, and calls
that at the module's place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from savile.lm.sites import Block, LinearSite

Update = Callable[[Tensor, Tensor], Tensor]
"""From the input [..., in] and the output [..., out] of a linear map or block to its new output."""


def change_output(site: LinearSite, update: Update) -> RemovableHandle:
    """Let `update` change a linear map's output until the handle is removed."""
    return site.module.register_forward_hook(_Output(update))


def change_input(site: LinearSite, update: Callable[[Tensor], Tensor]) -> RemovableHandle:
    """Let `update` change a linear map's input [..., in] until the handle is removed."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (update(inputs[0]), *inputs[1:])

    return site.module.register_forward_pre_hook(hook)


def change_block(block: Block, update: Update) -> list[RemovableHandle]:
    """Let `update` change a block's output until the handles are removed."""
    seen: list[Tensor] = []

    def enter(module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        seen[:] = [inputs[0] if inputs else options["hidden_states"]]

    def leave(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, tuple):  # attention also returns its weights
            return (update(seen.pop(), output[0]), *output[1:])
        return update(seen.pop(), output)

    return [
        block.first.register_forward_pre_hook(enter, with_kwargs=True),
        block.last.register_forward_hook(leave),
    ]


def output_updates(module: nn.Module) -> list[Update] | None:
    """Return what changes a linear map's output; None where something else is hooked to it."""
    hooks = list(module._forward_hooks.values())
    updates = [hook.update for hook in hooks if isinstance(hook, _Output)]
    return None if module._forward_pre_hooks or len(updates) < len(hooks) else updates


def changed(module: nn.Module, x: Tensor, computed: Tensor) -> Tensor:
    """Return what the hooks of a block make of its output, which was computed without calling it.

    Args:
        module: the block, its first and last module in one.
        x: its input [N, D].
        computed: its output [N, D].
    """
    for key, enter in module._forward_pre_hooks.items():
        if key in module._forward_pre_hooks_with_kwargs:
            enter(module, (x,), {})
    for leave in module._forward_hooks.values():
        new: Tensor | None = leave(module, (x,), computed)
        computed = computed if new is None else new  # as PyTorch takes a hook's answer
    return computed


@final
class _Output:
    """A hook that changes a module's output."""

    def __init__(self, update: Update) -> None:
        self.update = update

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return self.update(inputs[0], output)
