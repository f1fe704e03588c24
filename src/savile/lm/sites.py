"""Where a delta may attach to a model; the one file that knows how model families are built.

Three kinds of site: a linear map (its input or its output is changed by a hook, so the base's
weights are never touched), a block (the attention or the feed-forward of a decoder layer, before
the residual is added), and the input embeddings (a root of virtual tokens before the tree); beside
them, the parameters that a delta may train in place. Module names are those of `named_modules` of
the causal model, which are also the names PEFT writes into its files.

Families are told apart by structure: the decoder layers are the list as long as the configuration
says; of a layer's children that hold matrices, the one called attention is the attention and what
is left is the feed-forward. What does not look like this is refused, never guessed.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from savile.errors import Problem, UsageError


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

    @property
    def bias(self) -> Tensor | None:
        """The map's bias [out], if it has one."""
        return dict(self.module.named_parameters(recurse=False)).get("bias")


class Block(NamedTuple):
    """The attention or the feed-forward of one decoder layer."""

    name: str
    first: nn.Module
    """Sees the block's input [..., D], which is normalized in most families."""
    last: nn.Module
    """Gives the block's output [..., D], projected back to D, before the residual is added."""


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
    def hidden_size(self) -> int:
        """D, the width of what the decoder layers read and write."""
        return int(self._model.config.get_text_config().hidden_size)

    @property
    def embedding_weight(self) -> Tensor:
        """The table of the input embeddings, [V, D]."""
        return self.embedding.get_parameter("weight")

    @property
    def head(self) -> nn.Module:
        """The output head."""
        found: nn.Module = self._model.get_output_embeddings()  # type: ignore[no-untyped-call]
        return found

    def trunk(self) -> list[nn.Parameter]:
        """Return every parameter but those of input embeddings and output head."""
        outside = {id(p) for m in (self.embedding, self.head) for p in m.parameters()}
        return [p for p in self._model.parameters() if id(p) not in outside]

    def linear_maps(self) -> list[LinearSite]:
        """Return every linear map of the trunk, the output head excluded, in forward order."""
        head = self.head
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

    def layers(self) -> dict[str, nn.Module]:
        """Return the decoder layers by name, first to last.

        Raises:
            UsageError: the model keeps them in no list.
        """
        decoder: nn.Module = self._model.get_decoder()  # type: ignore[no-untyped-call]
        depth = int(self._model.config.get_text_config().num_hidden_layers)
        lists = [m for m in decoder.modules() if isinstance(m, nn.ModuleList) and len(m) == depth]
        if not lists:
            raise self._unknown(f"no list of {depth} decoder layers")
        names = {module: name for name, module in self._model.named_modules()}
        return {names[layer]: layer for layer in lists[0]}

    def attention_blocks(self) -> list[Block]:
        """Return the attention of every layer.

        Raises:
            UsageError: the layers do not consist of one attention and one feed-forward.
        """
        return [self._layer(name, module)[0] for name, module in self.layers().items()]

    def feed_forward_blocks(self) -> list[Block]:
        """Return the feed-forward of every layer.

        Raises:
            UsageError: the layers do not consist of one attention and one feed-forward.
        """
        return [self._layer(name, module)[1] for name, module in self.layers().items()]

    def key_value_maps(self) -> list[LinearSite]:
        """Return the maps that give keys and values: those whose names begin with k or v, else the
        widest of an attention, which gives its queries, keys and values.

        Raises:
            UsageError: the attention blocks cannot be found.
        """
        found = []
        for block in self.attention_blocks():
            inside = self._inside(block)
            own = [s for s in inside if s.name.rsplit(".", 1)[-1].startswith(("k", "v"))]
            found += own or sorted(inside, key=lambda s: s.out_features)[-1:]
        return found

    def feed_forward_outputs(self) -> list[LinearSite]:
        """Return the map of every feed-forward that projects its activations back to D.

        Raises:
            UsageError: the feed-forward blocks cannot be found, or are mixtures of experts.
        """
        return [self._back(block) for block in self.feed_forward_blocks()]

    def norms(self) -> list[str]:
        """Return the names of all normalizations that have parameters."""
        return [
            name
            for name, module in self._model.named_modules()
            if "norm" in type(module).__name__.lower() and list(module.parameters(recurse=False))
        ]

    def final_norms(self) -> list[str]:
        """Return the names of the normalizations after the last layer."""
        layers = tuple(f"{name}." for name in self.layers())
        outside = [name for name in self.norms() if not name.startswith(layers)]
        return [name for name in outside if "embed" not in name]  # Bloom's is before the first

    def biases(self) -> dict[str, nn.Parameter]:
        """Return every additive bias the base has, by name."""
        named = self._model.named_parameters()
        return {name: p for name, p in named if name.rsplit(".", 1)[-1] == "bias"}

    def parameters_of(self, modules: Iterable[str]) -> dict[str, nn.Parameter]:
        """Return all parameters inside the named modules, by full name."""
        inside = tuple(f"{name}." for name in modules)
        return {name: p for name, p in self._model.named_parameters() if name.startswith(inside)}

    def reached(self, trained: Iterable[Tensor]) -> list[nn.Parameter]:
        """Return the parameters that a gradient passes on its way back to the first of `trained`:
        whole layers, and the whole base where something beside it trains."""
        own = {id(tensor) for tensor in trained}
        named = list(self._model.named_parameters())
        if not own <= {id(p) for _, p in named}:
            return [p for _, p in named]
        layers = {_layer_of(name) for name, p in named if id(p) in own}
        first = min(place for place, (name, _) in enumerate(named) if _layer_of(name) in layers)
        return [p for _, p in named[first:]]

    def _layer(self, name: str, layer: nn.Module) -> tuple[Block, Block]:
        """Return the attention and the feed-forward of one layer."""
        children = _with_matrices(layer)
        attention = [child for child in children if "att" in child]
        rest = [child for child in children if child not in attention]
        if len(attention) != 1 or not rest:
            raise self._unknown(f"{', '.join(children) or 'nothing'} in {name}")
        one = self._block(f"{name}.{attention[0]}", layer.get_submodule(attention[0]))
        parts = [layer.get_submodule(child) for child in rest]
        if len(parts) == 1:
            return one, self._block(f"{name}.{rest[0]}", parts[0])
        if len(parts) == 2 and all(isinstance(part, nn.Linear) for part in parts):
            return one, Block(f"{name}.{rest[1]}", parts[0], parts[1])  # OPT's fc1 and fc2
        raise self._unknown(f"{', '.join(children)} in {name}")

    def _block(self, name: str, module: nn.Module) -> Block:
        """Return a block of one module; where that adds the residual itself (Bloom, MPT), it ends
        with its projection back to D."""
        block = Block(name, module, module)
        if "residual" not in inspect.signature(module.forward).parameters:
            return block
        return block._replace(last=self._back(block).module)

    def _back(self, block: Block) -> LinearSite:
        """Return the linear map of a block that projects back to D."""
        back = [s for s in self._inside(block) if s.out_features == self.hidden_size]
        experts = any(parameter.dim() > 2 for parameter in block.last.parameters())
        if experts or not back:
            raise self._unknown(f"no single linear map back to the width in {block.name}")
        return back[-1]

    def _inside(self, block: Block) -> list[LinearSite]:
        return [s for s in self.linear_maps() if f"{s.name}.".startswith(f"{block.name}.")]

    def _unknown(self, found: str) -> UsageError:
        return UsageError(
            Problem(
                what="the base is built in a way this technique does not know",
                found=f"{found} ({type(self._model).__name__})",
                expected="layers of one attention and one feed-forward, made of linear maps",
                fix="Use lora, which needs no such structure.",
            )
        )


def _with_matrices(layer: nn.Module) -> list[str]:
    """Return the names of a layer's children that hold matrices: blocks, not norms."""
    return [
        name
        for name, child in layer.named_children()
        if any(parameter.dim() > 1 for parameter in child.parameters())
    ]


def _layer_of(parameter: str) -> str:
    """`model.layers.3.mlp.up_proj.weight` -> `model.layers.3.`; outside a list the name itself."""
    found = re.match(r".*?\.\d+\.", parameter)
    return found[0] if found else parameter
