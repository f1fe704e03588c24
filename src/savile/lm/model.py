"""`LM`: one loaded base model that evaluates token trees.

Everything above this layer sees tokens, trees and log-probabilities; transformers is known here and
in the neighboring files alone. A model is probed when it is wrapped: a small tree against its
separate sequences, and one attention call per layer; a model that fails runs on plain padded
batches with the same results (`uses_tree` is False, and its rows say so).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from savile.lm import attention
from savile.lm.flex import agree
from savile.lm.layout import Layout, plan
from savile.lm.llama import Llama
from savile.lm.output_head import chosen_logprobs
from savile.lm.padded import padded
from savile.lm.prefix import Prefix, Root, recorded
from savile.lm.probe import Probe
from savile.lm.sites import Sites
from savile.lm.store import Store
from savile.lm.template import Template
from savile.lm.tree import KeysValues, Paths, Tree, build
from savile.lm.work import Work
from savile.types import Message

__all__ = ["LM", "Root", "Work"]


class LM:
    """A causal language model with its tokenizer, template and attachment sites."""

    def __init__(self, model: PreTrainedModel, tokenizer: Any, *, name: str) -> None:
        """Wrap a loaded model; its parameters are frozen and dropout is off.

        Args:
            model: a causal model of transformers, on its device.
            tokenizer: its fast tokenizer.
            name: what the board calls it.
        """
        self.model = model
        model.eval()  # type: ignore[no-untyped-call]
        model.requires_grad_(False)
        self.tokenizer = tokenizer
        self.template = Template(tokenizer)
        self.name = name
        self.sites = Sites(model)
        self.root: Root | None = None
        """Virtual tokens before every tree, set by a delta."""
        self.prefix: Prefix | None = None
        """Keys and values before the virtual tokens, set by a delta."""
        self.below: Callable[[Llama, Tree, Tensor, Layout], tuple[int, Tensor]] | None = None
        """From the pass, a tree, its input vectors and its plan to the first layer that has to be
        computed and what goes into it; None computes all of them."""
        self.heads: dict[str, nn.Module] = {}
        """Heads over the hidden states (reward, value) while an objective trains or uses them."""
        self.work = Work()
        self.amp: torch.dtype | None = None
        """Type of autocast in training; None computes in the weights' own type."""
        self.quantization: str | None = None
        """How the weights of the trunk's linear maps are stored (`int8`, `nf4`); None: plainly."""
        self.uses_tree = False
        self._plain = model.config._attn_implementation
        self._own: Llama | None = None
        self._attends: frozenset[tuple[int, int, int]] = frozenset()
        self._seen: Tensor | None = None
        self._head.register_forward_pre_hook(self._see)
        self._probe()

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        device: torch.device = self.model.device
        return device

    @property
    def context(self) -> int:
        """The longest sequence in tokens the base was built for."""
        return int(getattr(self.model.config, "max_position_embeddings", 1 << 30))

    @property
    def n_parameters(self) -> int:
        """Parameters of the base, tied ones once."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def trunk_parameters(self) -> int:
        """N: parameters without input embeddings and output head."""
        outside = {id(p) for m in (self.sites.embedding, self._head) for p in m.parameters()}
        return sum(p.numel() for p in self.model.parameters() if id(p) not in outside)

    @property
    def head_parameters(self) -> int:
        """V * D of the output head."""
        return self._head.get_parameter("weight").numel()

    @property
    def _head(self) -> nn.Module:
        head: nn.Module = self.model.get_output_embeddings()  # type: ignore[no-untyped-call]
        return head

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids of a chat up to the assistant's turn."""
        return self.template.encode_prompt(messages)

    def encode_completion(self, text: str) -> list[int]:
        """Return the ids of an answer and the token that ends it."""
        return self.template.encode_completion(text)

    @contextlib.contextmanager
    def mixed_precision(self) -> Iterator[None]:
        """Compute in `amp` where the machine has it (training only; evaluation keeps full
        precision)."""
        if self.amp is None:
            yield
        else:
            with torch.autocast(self.device.type, self.amp):
                yield

    def logprobs(self, tree: Tree) -> Tensor:
        """Return the log-probability of every target, float32 [M], differentiable.

        Args:
            tree: what to predict (`tree.targets`), in the order of its rows.
        """
        sources, index = np.unique(tree.targets.source, return_inverse=True)
        rows = torch.from_numpy(index).to(self.device)
        tokens = torch.from_numpy(tree.targets.token).to(self.device)
        layout = self.plan(tree) if self.uses_tree else None
        if layout is not None and (own := self._serving(layout.deepest)) is not None:
            self.work.separate_tokens += tree.separate_tokens
            hidden = self._hidden(own, tree, sources, layout)
            return chosen_logprobs(hidden, self._head.get_parameter("weight"), rows, tokens)
        logits = self.logits(tree, sources, layout)
        normal = torch.logsumexp(logits, -1)
        return logits[rows, tokens] - normal[rows]

    def sequence_logprobs(self, tree: Tree) -> Tensor:
        """Return the log-probability of each completion, float32 [sequences], differentiable."""
        rows = self.logprobs(tree)
        index = torch.from_numpy(tree.targets.sequence).to(rows.device)
        return rows.new_zeros(tree.sequences).index_add(0, index, rows)

    def logits(
        self, tree: Tree, nodes: np.ndarray[Any, Any], layout: Layout | None = None
    ) -> Tensor:
        """Return next-token logits, float32 [S, V], at the given packed nodes [S].

        Args:
            tree: the tokens.
            nodes: packed indices of the nodes whose successors are predicted.
            layout: what `plan` gave for this tree (generation asks it to keep keys and values).
        """
        self.work.separate_tokens += tree.separate_tokens
        if not self.uses_tree:
            return self._separate(tree, nodes)
        layout = layout or self.plan(tree)
        if (own := self._serving(layout.deepest)) is not None:
            self._seen = self._hidden(own, tree, nodes, layout)
            return functional.linear(self._seen, self._head.get_parameter("weight")).float()
        ids = torch.from_numpy(tree.tokens).to(self.device)[None]
        where = torch.from_numpy(np.asarray(nodes)).to(self.device)
        logits = self._forward(ids, layout.depth[None], {"tree": layout}, where)[0].float()
        self._keep(0)
        return logits

    def logits_and_hidden(self, tree: Tree, nodes: np.ndarray[Any, Any]) -> tuple[Tensor, Tensor]:
        """Return next-token logits [S, V] and what the output head read, [S, D], at the nodes [S].

        The hidden states are those of the last layer after its norm, float32: heads stand on them.
        """
        logits = self.logits(tree, nodes)
        hidden, self._seen = self._seen, None
        if hidden is None:
            raise RuntimeError("the base's output head was not called")
        return logits, hidden.float()

    def step(self, tokens: Tensor, store: Store) -> Tensor:
        """Return the next logits, float32 [N, V], after the new tokens [N] that the store's step
        announces."""
        assert store.step is not None, "announce the step with `append` before it is computed"
        self.work.tokens += len(tokens)
        self.work.predictions += len(tokens)
        if (own := self._serving(store.step.deepest)) is not None:
            hidden = own.after(self.sites.embedding(tokens), store)
            return functional.linear(hidden, self._head.get_parameter("weight")).float()
        out = self.model(
            inputs_embeds=self.sites.embedding(tokens[None]),
            position_ids=store.step.depth[None],
            use_cache=False,
            tree=store,
        )
        logits: Tensor = out.logits[0].float()
        return logits

    @property
    def root_tokens(self) -> int:
        """How many virtual positions stand before every sequence: the prefix, then the root."""
        return sum(part.tokens for part in (self.prefix, self.root) if part is not None)

    def plan(self, tree: Tree) -> Layout:
        """Return the attention plan of a tree behind the prefix and the root that are attached."""
        silent = 0 if self.prefix is None else self.prefix.tokens
        layout = plan(tree, self.device, self.root_tokens, silent)
        layout.fused = agree(self._attends, self.model.dtype, layout)
        if self.prefix is not None:
            layout.prefix = self.prefix.layers()
        return layout

    @torch.no_grad()
    def keys_and_values(self, ids: Sequence[int]) -> list[KeysValues]:
        """Return what attention keeps of some tokens at the positions 0 to n, [K, n, D] each, for
        every layer that keeps nothing else."""
        layout = plan(build([Paths(ids, [])]), self.device)
        self.work.tokens += len(ids)
        vectors = self.sites.embedding(torch.tensor([ids], device=self.device))
        extra = {"tree": layout} if self.uses_tree else {}
        return recorded(self.model, vectors, layout.depth[None], extra)

    def _serving(self, deepest: int) -> Llama | None:
        """Return the family's own forward pass where it serves positions up to the deepest."""
        own = None if torch.is_autocast_enabled(self.device.type) else self._own
        return own if own is not None and own.serves(deepest) else None

    def _hidden(
        self, own: Llama, tree: Tree, nodes: np.ndarray[Any, Any], layout: Layout
    ) -> Tensor:
        """Return what the output head reads at the given nodes, [S, D]."""
        vectors = self.sites.embedding(torch.from_numpy(tree.tokens).to(self.device))
        if self.root is not None:
            vectors = torch.cat([self.root.vectors().to(vectors.dtype), vectors])
        self.work.tokens += len(vectors)
        self.work.predictions += len(nodes)
        ends, index = np.unique(np.asarray(nodes), return_inverse=True)
        asked = ends + len(layout.depth) - len(tree)
        first = 0
        if self.below is not None and not self.root_tokens and layout.keep is None:
            first, vectors = self.below(own, tree, vectors, layout)
        hidden = own.over(vectors, layout, asked, first)
        same = np.array_equal(ends, nodes)
        return hidden if same else hidden[torch.from_numpy(index).to(self.device)]

    def _forward(self, ids: Tensor, depth: Tensor, extra: dict[str, Any], where: Tensor) -> Tensor:
        """Run the model on `ids` [B, T] behind the root.

        Args:
            ids: token ids.
            depth: position ids; the last ones are those of root and ids.
            extra: what tells attention about the rest.
            where: the columns of `ids` whose successors are predicted [S].

        Returns:
            [B, S, V].
        """
        vectors = self.sites.embedding(ids)
        if self.root is not None:
            root = self.root.vectors().to(vectors.dtype).expand(len(ids), -1, -1)
            vectors = torch.cat([root, vectors], 1)
        rows, columns = vectors.shape[:2]
        self.work.tokens += rows * columns
        self.work.predictions += rows * len(where)
        out = self.model(
            inputs_embeds=vectors,
            position_ids=depth[:, -columns:],
            use_cache=False,
            logits_to_keep=where + columns - ids.shape[1],
            **extra,
        )
        logits: Tensor = out.logits
        return logits

    def _separate(self, tree: Tree, nodes: np.ndarray[Any, Any]) -> Tensor:
        """Compute the same logits as right-padded batches of root-to-node paths."""
        batch = padded(tree, nodes, self.root_tokens, self.device)
        extra: dict[str, Any] = {"attention_mask": batch.mask}
        if self.prefix is not None:
            extra["past_key_values"] = self.prefix.cache(len(batch.ids), self.model.dtype)
        everywhere = torch.arange(batch.ids.shape[1], device=self.device)
        logits = self._forward(batch.ids, batch.depth, extra, everywhere)
        self._keep(batch.places)
        return logits[batch.places].float()

    def _see(self, head: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._seen = inputs[0]

    def _keep(self, index: Any) -> None:
        self._seen = None if self._seen is None else self._seen[index]

    def _probe(self) -> None:
        """Use the tree where it gives what separate sequences give, and the family's own forward
        pass where that does too."""
        probe = Probe(len(self.sites.embedding_weight), self.model.dtype)
        layers = int(self.model.config.get_text_config().num_hidden_layers)
        with torch.no_grad():
            wanted = self.logits(probe.tree, probe.sources)
            try:
                self.model.set_attn_implementation(attention.NAME)
                self.uses_tree = True
                layout = self.plan(probe.tree)
                good = probe.same(self.logits(probe.tree, probe.sources, layout), wanted)
                self.uses_tree = good and len(layout.calls) == layers
                self._attends = frozenset(layout.calls)
            except (ValueError, TypeError, KeyError, RuntimeError, AttributeError):
                self.uses_tree = False  # this architecture does not hand the plan through
            if not self.uses_tree:
                self.model.set_attn_implementation(self._plain)
            elif Llama.fits(self.model):
                self._own = Llama(self.model)
                if not probe.same(self.logits(probe.tree, probe.sources), wanted):
                    self._own = None
        self.work = Work()
