"""Prefix tuning: n trained keys and values stand before every sequence in every layer.

    attention(q, [P_K; K], [P_V; V])            P_K, P_V: [K heads, n, D] a layer, trained
    with prefix_projection: P = W2 tanh(W1 E + b1) + b2      E: [n, K heads * D], all of it trained

Source: Li and Liang 2021, arXiv 2101.00190, section 4 (equation 3; the projection: section 4.3).
In the token tree P is the root of all sequences: further keys of the stem, at the positions 0 to n.
A layer with a sliding window sees them as far back as it sees tokens, as in PEFT.

Differs from the paper: P starts as noise of a tenth of the scale that keys and values have in the
base, which learned hard_routing where the activations of words that have nothing to do with the
task did not (docs/log.md); those of the instruction are a setting. The projection has one matrix
for every layer's keys and values, as PEFT's, and starts so that it gives the same P (the authors'
code trains it to). It is kept to resume and dropped from PEFT's files.

Cost: 2 * L * n * K heads * D trainable parameters and no FLOPs but those of the scores: n more keys
a query. The projection of width H has about (2 * L + 1) * H * K heads * D more while it trains.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Final, Literal, Self, final

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from savile.deltas.base import PROMPT_EMBEDDINGS, Attached, Delta, Peft, generator
from savile.errors import Problem, UsageError
from savile.lm.model import LM
from savile.lm.prefix import Prefix
from savile.lm.tree import KeysValues

NOISE: Final = 0.1
"""Size of the initial noise as a share of the base's own keys and values."""
SAMPLE: Final = 32
"""Tokens whose keys and values say how large those of the base are."""


@final
@dataclass(frozen=True, kw_only=True)
class PrefixTuning(Delta):
    """Trained keys and values before the input, in every layer."""

    starts_as_base: ClassVar[bool] = False
    occupies: ClassVar[tuple[str, ...]] = ("keys and values",)
    rate_share: ClassVar[float] = 0.3
    """Default learning rate as a share of the size of the base's keys and values."""
    projected_rate: ClassVar[float] = 0.003
    """Default learning rate of the projection (both measured: docs/log.md)."""

    num_virtual_tokens: Annotated[int, Ge(1), Le(4096)] = 20
    """How many positions the keys and values take."""
    prefix_projection: bool = False
    """Train a two-layer perceptron that computes them, and not them themselves."""
    encoder_hidden_size: Annotated[int, Ge(1), Le(65536)] | None = None
    """Width of the projection; None means that of a layer's keys."""
    prefix_tuning_init: Literal["random", "instruction", "text"] = "random"
    """Start from small noise, or from the keys and values of the task's instruction or of
    `prefix_tuning_init_text`."""
    prefix_tuning_init_text: str | None = None
    """The text to start from, repeated or cut to the number of positions; `instruction` takes the
    task's."""
    learning_rate: Annotated[float, Gt(0), Le(100)] | None = None
    """Peak learning rate; None searches around 0.3 times the size of the base's keys and values,
    or around 0.003 with `prefix_projection`."""

    def default_rate(self, lm: LM) -> float:
        """Return a share of the size of the base's keys and values (the median channel's), or the
        projection's own rate."""
        if self.prefix_projection:
            return self.projected_rate
        sizes = [channel.flatten() for pair in _sizes(lm, generator(0)) for channel in pair]
        return self.rate_share * float(torch.cat(sizes).median())

    def for_task(self, instruction: str | None, labels: Sequence[str]) -> PrefixTuning:
        """Take the task's instruction as the text to start from, where none is given."""
        if self.prefix_tuning_init != "instruction" or self.prefix_tuning_init_text is not None:
            return self
        return replace(self, prefix_tuning_init_text=instruction)

    def attach(self, lm: LM, seed: int) -> Attached:
        """Put the keys and values before every tree.

        Raises:
            UsageError: the base's context is too short, not all of its layers attend, or there is
                no text for `prefix_tuning_init`.
        """
        return _Attached(lm, self, seed)

    @classmethod
    def from_peft(cls, peft: Peft) -> tuple[Self, dict[str, Tensor]] | None:
        """Read PEFT's prefix tuning files, which hold the keys and values themselves."""
        if peft.config.get("peft_type") != "PREFIX_TUNING":
            return None
        flat = peft.tensors[PROMPT_EMBEDDINGS].float()
        return cls(num_virtual_tokens=len(flat)), {PROMPT_EMBEDDINGS: flat}


class _Attached(Attached):
    def __init__(self, lm: LM, delta: PrefixTuning, seed: int) -> None:
        super().__init__(lm)
        start = START[delta.prefix_tuning_init](lm, delta, generator(seed))
        self.shapes = [x.shape[::2] for pair in start for x in pair]
        flat = torch.cat([x.transpose(0, 1).flatten(1) for pair in start for x in pair], 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = _encoder(flat.float().cpu(), self.shapes[0].numel(), delta)
        self.encoder = encoder.to(lm.device)
        lm.prefix = Prefix(len(flat), self.layers)

    def layers(self) -> list[KeysValues]:
        """Return keys and values [K, n, D] of every layer."""
        with torch.autocast(self.lm.device.type, enabled=False):
            flat = self.encoder()
        parts = flat.split([shape.numel() for shape in self.shapes], 1)
        both = zip(parts, self.shapes, strict=True)
        each = [part.unflatten(1, shape).transpose(0, 1) for part, shape in both]
        return list(zip(each[::2], each[1::2], strict=True))

    def parameters(self) -> dict[str, Tensor]:
        return dict(self.encoder.named_parameters())

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        self.lm.prefix, before = None, self.lm.prefix
        try:
            yield
        finally:
            self.lm.prefix = before

    def merge(self) -> bool:
        return False

    def to_peft(self) -> Peft | None:
        """Return the keys and values as they are now; None where PEFT cannot describe them: its
        format has one shape for all layers."""
        if len(set(self.shapes)) > 1:
            return None
        flat = self.encoder().detach().to("cpu", copy=True)
        heads, width = self.shapes[0]
        return Peft(
            {
                "peft_type": "PREFIX_TUNING",
                "task_type": "CAUSAL_LM",
                "base_model_name_or_path": self.lm.name,
                "num_virtual_tokens": len(flat),
                "token_dim": heads * width,
                "num_transformer_submodules": 1,
                "num_attention_heads": heads,
                "num_layers": len(self.shapes) // 2,
                "encoder_hidden_size": heads * width,
                "prefix_projection": False,
                "inference_mode": True,
            },
            {PROMPT_EMBEDDINGS: flat},
        )

    def detach(self) -> None:
        self.lm.prefix = None


class _Direct(nn.Module):
    """The keys and values [n, F], F those of all layers beside each other, as PEFT lays them."""

    def __init__(self, flat: Tensor) -> None:
        super().__init__()
        self.prompt_embeddings = nn.Parameter(flat)

    def forward(self) -> Tensor:
        return self.prompt_embeddings


class _Projection(nn.Module):
    """PEFT's PrefixEncoder, started so that it gives `flat` as closely as its width lets it."""

    def __init__(self, flat: Tensor, width: int, hidden: int) -> None:
        super().__init__()
        n, size = flat.shape
        last = nn.Linear(hidden, size)
        self.embedding = nn.Embedding(n, width)
        self.transform = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), last)
        with torch.no_grad():
            inner = self.transform[:2](self.embedding.weight)
            mean = flat.mean(0)
            last.weight.copy_(torch.linalg.lstsq(inner, flat - mean).solution.T)
            last.bias.copy_(mean)

    def forward(self) -> Tensor:
        flat: Tensor = self.transform(self.embedding.weight)
        return flat


def _encoder(flat: Tensor, width: int, delta: PrefixTuning) -> nn.Module:
    if not delta.prefix_projection:
        return _Direct(flat)
    return _Projection(flat, width, delta.encoder_hidden_size or width)


Start = Callable[[LM, PrefixTuning, torch.Generator], list[KeysValues]]
"""Returns initial keys and values, [K, n, D] a layer."""


def _random(lm: LM, delta: PrefixTuning, rng: torch.Generator) -> list[KeysValues]:
    def noise(size: Tensor) -> Tensor:
        heads, _, width = size.shape
        drawn = torch.randn(heads, delta.num_virtual_tokens, width, generator=rng)
        return NOISE * size * drawn

    return [(noise(keys), noise(values)) for keys, values in _sizes(lm, rng)]


def _text(lm: LM, delta: PrefixTuning, rng: torch.Generator) -> list[KeysValues]:
    words, n = delta.prefix_tuning_init_text, delta.num_virtual_tokens
    ids = lm.encode_completion(words)[:-1] if words else []
    if not ids:
        raise UsageError(
            Problem(
                what=f"there is no text for prefix_tuning_init: {delta.prefix_tuning_init}",
                where="prefix_tuning_init",
                found=repr(words),
                expected="prefix_tuning_init_text, or an instruction of the task "
                "(prompt.instruction)",
            )
        )
    return _kept(lm, [ids[i % len(ids)] for i in range(n)])


START: Final[Mapping[str, Start]] = {"random": _random, "instruction": _text, "text": _text}


def _sizes(lm: LM, rng: torch.Generator) -> list[KeysValues]:
    """Return the root mean square of every channel of the base's keys and values, [K, 1, D]."""
    ids = torch.randint(len(lm.sites.embedding_weight), (min(SAMPLE, lm.context),), generator=rng)
    return [
        (_rms(keys.float().cpu()), _rms(values.float().cpu()))
        for keys, values in _kept(lm, ids.tolist())
    ]


def _rms(tokens: Tensor) -> Tensor:
    return tokens.square().mean(1, keepdim=True).sqrt()


def _kept(lm: LM, ids: Sequence[int]) -> list[KeysValues]:
    """Return the keys and values of tokens in every layer.

    Raises:
        UsageError: the context is too short for them, or not all layers have keys and values.
    """
    if len(ids) > lm.context:
        raise UsageError(
            Problem(
                what="the base's context has no room for the prefix",
                where="num_virtual_tokens",
                found=str(len(ids)),
                expected=f"at most {lm.context}",
            )
        )
    kept = lm.keys_and_values(ids)
    layers = int(lm.model.config.get_text_config().num_hidden_layers)
    if len(kept) < layers:
        raise UsageError(
            Problem(
                what="prefix tuning needs keys and values in every layer",
                found=f"{len(kept)} of {layers} layers ({type(lm.model).__name__})",
                fix="Use prompt_tuning, which needs none.",
            )
        )
    return kept
