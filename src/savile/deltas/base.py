"""What is trainable: a `Delta` attaches to a model, and everything it changes is undone on detach.

A delta sees only `lm.sites`, `lm.root` and `lm.prefix`; no model family is known here. Master
weights are fp32; they are cast to the type the base computes in. Attaching draws from the generator
it is given and from nothing else, so the same seed gives the same bits.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, ClassVar, Final, NamedTuple, Self

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from savile.errors import IntegrityError, Problem
from savile.lm.model import LM, Root

PROMPT_EMBEDDINGS: Final = "prompt_embeddings"
"""PEFT's name of a soft prompt's vectors."""


class Peft(NamedTuple):
    """A delta in PEFT's file format."""

    config: dict[str, Any]
    """`adapter_config.json`."""
    tensors: dict[str, Tensor]
    """`adapter_model.safetensors`."""

    def blob(self) -> bytes:
        """Return the bytes of `adapter_model.safetensors`."""
        tensors = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        return safetensors.torch.save(tensors, metadata={"format": "pt"})


class Attached(ABC):
    """A delta on a model: a context manager that leaves the base bit-identical behind."""

    def __init__(self, lm: LM) -> None:
        self.lm = lm

    @property
    def members(self) -> Sequence[Attached]:
        """The deltas it consists of: itself, unless several train together."""
        return (self,)

    @abstractmethod
    def parameters(self) -> dict[str, Tensor]:
        """Return exactly the tensors that train, by name; all require gradients."""

    def state(self) -> dict[str, Tensor]:
        """Return a copy of everything a reload needs, on the CPU."""
        return {k: p.detach().to("cpu", copy=True) for k, p in self.parameters().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Set the parameters to a saved state.

        Raises:
            IntegrityError: names or shapes differ from this delta's.
        """
        copy_state(self.parameters(), state)

    def rate_factor(self, name: str) -> float:
        """Return by how much a parameter's learning rate differs from the plan's."""
        return 1.0

    @contextlib.contextmanager
    def at(self, state: Mapping[str, Tensor]) -> Iterator[None]:
        """Compute with another state inside the context: a reference policy, a reward model."""
        own = self.state()
        self.load(state)
        try:
            yield
        finally:
            self.load(own)

    @contextlib.contextmanager
    @abstractmethod
    def disabled(self) -> Iterator[None]:
        """Compute as the base alone does, inside the context."""
        yield

    @abstractmethod
    def merge(self) -> bool:
        """Fold the delta into the base's weights until detached; False where that is impossible."""

    @abstractmethod
    def to_peft(self) -> Peft | None:
        """Return the delta in PEFT's format, None where PEFT has no such method."""

    @abstractmethod
    def detach(self) -> None:
        """Take the delta off; the base is then as before, to the bit."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.detach()


class Hooked(Attached):
    """Parameters beside frozen weights; a subclass adds hooks that do nothing while disabled."""

    def __init__(self, lm: LM) -> None:
        super().__init__(lm)
        self.enabled = True
        self.hooks: list[RemovableHandle] = []

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """Compute with idle hooks, inside the context."""
        self.enabled, before = False, self.enabled
        try:
            yield
        finally:
            self.enabled = before

    def detach(self) -> None:
        """Remove the hooks."""
        for hook in self.hooks:
            hook.remove()


class InPlace(Attached):
    """Parameters of the base itself; their original values are kept aside and put back."""

    def __init__(self, lm: LM, own: Mapping[str, nn.Parameter]) -> None:
        super().__init__(lm)
        self._base = {name: p.detach().clone() for name, p in own.items()}
        self._own = {name: p.requires_grad_() for name, p in own.items()}

    def parameters(self) -> dict[str, Tensor]:
        """Return the base's own parameters that train."""
        return dict(self._own)

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """Compute with the original values, inside the context."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def merge(self) -> bool:
        """Return True: the weights are the model already."""
        return True

    @torch.no_grad()
    def detach(self) -> None:
        """Put the original values back."""
        for name, parameter in self._own.items():
            parameter.copy_(self._base[name]).requires_grad_(False)
            parameter.grad = None

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._own.items():
            kept = parameter.detach().clone()
            parameter.copy_(self._base[name])
            self._base[name] = kept


class SoftPrompt(Attached):
    """Virtual tokens at the root of every tree; a subclass says how they are computed."""

    def __init__(self, lm: LM, tokens: int) -> None:
        super().__init__(lm)
        lm.root = Root(tokens, self.vectors)
        self._tokens = tokens

    @abstractmethod
    def vectors(self) -> Tensor:
        """Return the virtual tokens, float32 [n, D], differentiable in the parameters."""

    @abstractmethod
    def peft_settings(self) -> dict[str, Any]:
        """Return what PEFT's configuration says beside the number and width of the tokens."""

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """Compute without the virtual tokens, inside the context."""
        self.lm.root, before = None, self.lm.root
        try:
            yield
        finally:
            self.lm.root = before

    def merge(self) -> bool:
        """Return False: virtual tokens are no change of a weight."""
        return False

    def to_peft(self) -> Peft:
        """Return the vectors as they are now; what computes them is not in PEFT's files."""
        config = self.lm.model.config.get_text_config()
        shared = {
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.lm.name,
            "num_virtual_tokens": self._tokens,
            "token_dim": self.lm.sites.width,
            "num_transformer_submodules": 1,
            "num_attention_heads": config.num_attention_heads,
            "num_layers": config.num_hidden_layers,
            "inference_mode": True,
        }
        vectors = self.vectors().detach().to("cpu", copy=True)
        return Peft(shared | self.peft_settings(), {PROMPT_EMBEDDINGS: vectors})

    def detach(self) -> None:
        """Take the virtual tokens off."""
        self.lm.root = None


class Delta(ABC):
    """A way of making a model trainable. Implementations are final, frozen, keyword-only
    dataclasses."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "use_attribute_docstrings": True,
    }
    needs: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[tuple[str, ...]] = ("parameters",)
    starts_as_base: ClassVar[bool] = True
    """Whether the model computes as the base does until the first step."""
    occupies: ClassVar[tuple[str, ...]] = ()
    """Places of the base that it alone may change (`root`, `prefix`, `weights`): two deltas that
    share none train together."""
    in_auto: ClassVar[bool] = True
    """Whether `ladder: auto` measures it; variants of another delta are asked for by name."""

    learning_rate: float | None
    """Peak learning rate; None starts the search from `default_rate`."""

    @abstractmethod
    def attach(self, lm: LM, seed: int) -> Attached:
        """Attach to a model whose parameters are frozen."""

    @abstractmethod
    def default_rate(self, lm: LM) -> float:
        """Return the learning rate the search starts from on this base."""

    def start_rate(self, lm: LM) -> float:
        """Return the configured learning rate, else the default for this base."""
        return self.learning_rate if self.learning_rate is not None else self.default_rate(lm)

    def for_task(self, instruction: str | None, labels: Sequence[str]) -> Delta:
        """Return the delta with what it takes from the task's own words filled in.

        Args:
            instruction: the task in words, None when it has none.
            labels: the closed set of answers, empty for free text.
        """
        return self

    @classmethod
    def from_peft(cls, peft: Peft) -> tuple[Self, dict[str, Tensor]] | None:
        """Return the delta and its state from PEFT's format; None where the files are another
        method's."""
        return None


@torch.no_grad()
def copy_state(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Set tensors to a saved state.

    Raises:
        IntegrityError: names or shapes differ.
    """
    wrong = sorted(set(own) ^ set(state)) or sorted(
        name for name, tensor in state.items() if tensor.shape != own[name].shape
    )
    if wrong:
        raise IntegrityError(
            Problem(
                what="the saved delta does not fit this base and these settings",
                found=", ".join(wrong[:5]),
                fix="Use the base, rank and targets it was trained with.",
            )
        )
    for name, tensor in state.items():
        own[name].copy_(tensor)


def generator(seed: int) -> torch.Generator:
    """Return the CPU generator every initialization draws from, so devices agree."""
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def embedded(lm: LM, tokens: Sequence[int]) -> Tensor:
    """Return what the model reads for tokens, float32 [n, D] on the CPU: rows of its table, times
    the scale of families that have one (Gemma)."""
    found: Tensor = lm.sites.embedding(torch.tensor(tokens, device=lm.device))
    return found.float().cpu()


def embedding_rms(lm: LM) -> float:
    """Return the root mean square of what the model reads for the tokens of its table."""
    return float(embedded(lm, range(len(lm.sites.embedding_weight))).square().mean().sqrt())
