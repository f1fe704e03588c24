"""Prompt tuning: n trained vectors stand before every input; the model stays frozen.

    [P; E(x)]        P: [n, D] trained, E the frozen embedding

Source: Lester, Al-Rfou, Constant 2021, arXiv 2104.08691, section 2; where P starts (the vocabulary,
a text, the labels of the task): section 3.2. In the token tree P is the root of all sequences, so
it is computed once a batch, and a batch equals its single runs.

Differs from the paper: AdamW instead of Adafactor; the learning rate is a share of the embedding's
scale; the vocabulary is drawn from as a whole (the paper takes the 5,000 most common tokens).

Cost: n * D trainable parameters; n more positions in every sequence (one shared root in a batch).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Final, Literal, Self, final

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from savile.deltas.base import (
    PROMPT_EMBEDDINGS,
    Attached,
    Delta,
    Peft,
    SoftPrompt,
    embedded,
    embedding_rms,
    generator,
)
from savile.errors import Problem, UsageError
from savile.lm.model import LM

SOFT_PROMPTS: Final = frozenset({"PROMPT_TUNING", "P_TUNING"})
"""PEFT's methods whose files hold nothing but the vectors: P-tuning's come without its encoder, so
they are a soft prompt like any other."""


@final
@dataclass(frozen=True, kw_only=True)
class PromptTuning(Delta):
    """Soft prompt vectors before the input."""

    starts_as_base: ClassVar[bool] = False
    occupies: ClassVar[tuple[str, ...]] = ("virtual tokens",)
    rate_share: ClassVar[float] = 0.5
    """Default learning rate as a share of the embedding's root mean square (measured:
    docs/log.md)."""

    num_virtual_tokens: Annotated[int, Ge(1), Le(4096)] = 20
    """How many vectors are trained."""
    prompt_tuning_init: Literal["vocabulary", "instruction", "labels", "text", "random"] = (
        "vocabulary"
    )
    """Start from embeddings of random tokens, of the task's instruction, of its labels, of
    `prompt_tuning_init_text`, or from noise of their scale."""
    prompt_tuning_init_text: str | None = None
    """The text to start from, repeated or cut to the number of vectors; `instruction` takes the
    task's."""
    prompt_tuning_init_labels: tuple[str, ...] | None = None
    """The labels to start from, a vector each, the rest from the vocabulary; None takes the
    task's."""
    learning_rate: Annotated[float, Gt(0), Le(100)] | None = None
    """Peak learning rate; None searches around 0.5 * rms of the embedding."""

    def default_rate(self, lm: LM) -> float:
        """Return a share of the embedding's scale, so that one step moves a vector by that
        share."""
        return self.rate_share * embedding_rms(lm)

    def for_task(self, instruction: str | None, labels: Sequence[str]) -> PromptTuning:
        """Take the task's instruction or labels as the words to start from, where none are
        given."""
        words: dict[str, dict[str, Any]] = {
            "instruction": {"prompt_tuning_init_text": instruction},
            "labels": {"prompt_tuning_init_labels": tuple(labels)},
        }
        wanted = words.get(self.prompt_tuning_init, {})
        return replace(self, **{k: v for k, v in wanted.items() if getattr(self, k) is None})

    def attach(self, lm: LM, seed: int) -> Attached:
        """Put the vectors at the root of every tree.

        Raises:
            UsageError: there are no words of the kind that `prompt_tuning_init` asks for.
        """
        return _Attached(lm, self, seed)

    @classmethod
    def from_peft(cls, peft: Peft) -> tuple[Self, dict[str, Tensor]] | None:
        """Read PEFT's files of prompt tuning, or of P-tuning (as the fixed vectors they hold)."""
        if peft.config.get("peft_type") not in SOFT_PROMPTS:
            return None
        vectors = peft.tensors[PROMPT_EMBEDDINGS].float()
        return cls(num_virtual_tokens=len(vectors)), {PROMPT_EMBEDDINGS: vectors}


class _Attached(SoftPrompt):
    def __init__(self, lm: LM, delta: PromptTuning, seed: int) -> None:
        start = START[delta.prompt_tuning_init](lm, delta, generator(seed))
        super().__init__(lm, len(start))
        self._vectors = start.to(lm.device).requires_grad_()

    def vectors(self) -> Tensor:
        return self._vectors

    def parameters(self) -> dict[str, Tensor]:
        return {PROMPT_EMBEDDINGS: self._vectors}

    def peft_settings(self) -> dict[str, Any]:
        return {"peft_type": "PROMPT_TUNING", "prompt_tuning_init": "RANDOM"}


Start = Callable[[LM, PromptTuning, torch.Generator], Tensor]
"""Returns initial vectors, float32 [n, D] on the CPU."""


def _random(lm: LM, delta: PromptTuning, rng: torch.Generator) -> Tensor:
    noise = torch.randn(delta.num_virtual_tokens, lm.sites.width, generator=rng)
    return noise * embedding_rms(lm)


def _vocabulary(lm: LM, delta: PromptTuning, rng: torch.Generator) -> Tensor:
    size = (delta.num_virtual_tokens,)
    drawn = torch.randint(len(lm.sites.embedding_weight), size, generator=rng)
    return embedded(lm, drawn.tolist())


def _text(lm: LM, delta: PromptTuning, rng: torch.Generator) -> Tensor:
    ids = _ids(lm, delta.prompt_tuning_init_text, delta)
    return embedded(lm, [ids[i % len(ids)] for i in range(delta.num_virtual_tokens)])


def _labels(lm: LM, delta: PromptTuning, rng: torch.Generator) -> Tensor:
    """One vector a label (the mean over its tokens), in a drawn order; then the vocabulary."""
    vectors = _vocabulary(lm, delta, rng)
    labels = delta.prompt_tuning_init_labels or (None,)
    means = torch.stack([embedded(lm, _ids(lm, label, delta)).mean(0) for label in labels])
    shown = means[torch.randperm(len(means), generator=rng)][: len(vectors)]
    vectors[: len(shown)] = shown
    return vectors


START: Final[Mapping[str, Start]] = {
    "random": _random,
    "vocabulary": _vocabulary,
    "instruction": _text,
    "text": _text,
    "labels": _labels,
}


def _ids(lm: LM, words: str | None, delta: PromptTuning) -> list[int]:
    ids = lm.encode_completion(words)[:-1] if words else []
    if not ids:
        raise UsageError(
            Problem(
                what=f"there is no text for prompt_tuning_init: {delta.prompt_tuning_init}",
                where="prompt_tuning_init",
                found=repr(words),
                expected="prompt_tuning_init_text, or words of the task (prompt.instruction, "
                "prompt.labels)",
            )
        )
    return ids
