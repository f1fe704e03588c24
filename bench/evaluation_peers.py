"""The peers of evaluation: lm-evaluation-harness for labels, transformers' `generate` for text.

Each is given token ids, so that no side's tokenization of the prompts is timed but ours.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel

from evaluation_jobs import Questions
from savile.lm.generate import end_tokens
from savile.lm.model import LM

Ids = list[list[int]]
BATCH = 16


def plain_model(path: str, dtype: torch.dtype) -> PreTrainedModel:
    """Return the base as transformers loads it."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    model.eval()  # type: ignore[no-untyped-call]
    return model


class Harness:
    """lm-evaluation-harness's HF backend: the log-likelihood of each label, one request each."""

    def __init__(self, model: PreTrainedModel, lm: LM, batch_size: int | str) -> None:
        """Wrap a loaded model; `batch_size` is the harness's own option."""
        self.backend: Any = HFLM(
            pretrained=model, tokenizer=lm.tokenizer, batch_size=batch_size, device="cpu"
        )

    def logprobs(self, asked: Questions, rows: Sequence[int]) -> list[list[float]]:
        """Return the log-likelihood of every label after the prompts `rows`."""
        requests = [
            ((str(row), str(number)), list(asked.prompts[row]), list(choice))
            for row in rows
            for number, choice in enumerate(asked.choices)
        ]
        flat = [own for own, _ in self.backend._loglikelihood_tokens(requests, disable_tqdm=True)]
        size = len(asked.choices)
        return [flat[at : at + size] for at in range(0, len(flat), size)]

    def answers(self, asked: Questions, rows: Sequence[int]) -> list[int]:
        """Return the likeliest label of each, the first of equals."""
        return [own.index(max(own)) for own in self.logprobs(asked, rows)]


class Generate:
    """transformers' greedy `generate` over padded batches."""

    def __init__(self, model: PreTrainedModel, lm: LM, *, cached: bool) -> None:
        """Take a loaded model; `cached` computes what all prompts begin with once."""
        self.model, self.cached = model, cached
        self.stops = sorted(end_tokens(lm))

    @torch.no_grad()
    def answers(self, asked: Questions, rows: Sequence[int]) -> Ids:
        """Return the ids of each answer, without the token that ended it."""
        shared = 0
        prompts = [asked.prompts[row] for row in rows]
        cache: DynamicCache | None = None
        if self.cached:
            pairs = zip(min(asked.prompts), max(asked.prompts), strict=False)
            shared = next(at for at, (a, b) in enumerate(pairs) if a != b)
            cache = DynamicCache(config=self.model.config)
            self.model(torch.tensor([prompts[0][:shared]]), past_key_values=cache, use_cache=True)
        found: Ids = []
        for start in range(0, len(prompts), BATCH):
            found += self._batch(prompts[start : start + BATCH], shared, cache, asked.new_tokens)
        return found

    def _batch(
        self, prompts: Sequence[list[int]], shared: int, cache: DynamicCache | None, limit: int
    ) -> Ids:
        longest = max(map(len, prompts))
        gaps = [longest - len(prompt) for prompt in prompts]  # before what is the row's own
        ids = [[*p[:shared], *[0] * gap, *p[shared:]] for p, gap in zip(prompts, gaps, strict=True)]
        mask = torch.ones(len(ids), longest, dtype=torch.long)
        for row, gap in enumerate(gaps):
            mask[row, shared : shared + gap] = 0
        options: dict[str, Any] = {}
        if cache is not None:
            options["past_key_values"] = copy.deepcopy(cache)
            options["past_key_values"].batch_repeat_interleave(len(ids))
        generate: Callable[..., torch.Tensor] = self.model.generate  # type: ignore[assignment]
        out = generate(
            torch.tensor(ids),
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=limit,
            eos_token_id=self.stops,
            pad_token_id=0,
            **options,
        )
        return [self._cut(row) for row in out[:, longest:].tolist()]

    def _cut(self, ids: list[int]) -> list[int]:
        ends = [at for at, token in enumerate(ids) if token in self.stops]
        return ids[: ends[0]] if ends else ids
