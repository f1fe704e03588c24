"""Where a delta may attach to a model; the one file that knows how model families are built.

Two sites so far: a linear map (wrapped by a forward hook, so the base's weights are never touched)
and the input embeddings (a root of virtual tokens before the tree). Module names are those of
`named_modules` of the causal model, which are also the names PEFT writes into its files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

Update = Callable[[Tensor, Tensor], Tensor]
"""From the input [..., in] and the output [..., out] of a linear map to its new output."""


class LinearSite(NamedTuple):
    """One linear map of the trunk."""

    name: str
    module: nn.Module
    in_features: int
    out_features: int
    transposed: bool
    """True when the weight is stored [in, out] (GPT-2's Conv1D) and not [out, in]."""

    @property
    def weight(self) -> Tensor:
        """The map's weight, as stored."""
        return self.module.get_parameter("weight")


class Sites:
    """The attachment sites of one model."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model

    @property
    def embedding(self) -> nn.Module:
        """The input embeddings."""
        found: nn.Module = self._model.get_input_embeddings()
        return found

    @property
    def width(self) -> int:
        """D, the width of the input embeddings."""
        return int(self.embedding_weight.shape[1])

    @property
    def embedding_weight(self) -> Tensor:
        """The table of the input embeddings, [V, D]."""
        return self.embedding.get_parameter("weight")

    def linear_maps(self) -> list[LinearSite]:
        """Return every linear map of the trunk, the output head excluded, in forward order."""
        head = self._model.get_output_embeddings()  # type: ignore[no-untyped-call]
        found = []
        for name, module in self._model.named_modules():
            if module is head:
                continue
            if isinstance(module, nn.Linear):
                found.append(
                    LinearSite(name, module, module.in_features, module.out_features, False)
                )
            elif isinstance(module, Conv1D):
                found.append(LinearSite(name, module, module.nx, module.nf, True))
        return found


def change_output(site: LinearSite, update: Update) -> RemovableHandle:
    """Let `update` change a linear map's output until the handle is removed."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return update(inputs[0], output)

    return site.module.register_forward_hook(hook)
