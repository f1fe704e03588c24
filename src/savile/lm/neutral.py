"""What a model prefers without a question: the bias of each choice after prompts without content.

    bias(y) = - log of the mean over c of p(y | c)

Each set of content-free prompts is computed once, with whatever delta is attached then.

Source: arXiv 2102.09690, section 5; 2104.08315, equation 4 (`savile.prompts.base_calibration`).
Cost: one tree of the prompts with all choices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from savile.lm.base import Chat
from savile.lm.model import LM
from savile.lm.tree import Paths, build


class Neutral:
    """The biases of a list of choices; made for one call, since weights may change between two."""

    def __init__(self, lm: LM, choices: Sequence[Sequence[int]]) -> None:
        """Take token ids of the choices, the token that ends them included."""
        self.lm, self.choices = lm, choices
        self._found: dict[tuple[Chat, ...], list[float]] = {}

    def bias(self, chats: tuple[Chat, ...]) -> list[float]:
        """Return the bias of each choice, nats; zeros without content-free chats."""
        if chats not in self._found:
            self._found[chats] = self._scored(chats) if chats else [0.0] * len(self.choices)
        return self._found[chats]

    @torch.no_grad()
    def _scored(self, chats: Sequence[Chat]) -> list[float]:
        prompts = [self.lm.encode_prompt(chat) for chat in chats]
        tree = build([Paths(prompt, self.choices) for prompt in prompts])
        logprobs_CN = self.lm.sequence_logprobs(tree).view(len(prompts), len(self.choices))
        mean_N = logprobs_CN.cpu().double().logsumexp(0) - math.log(len(prompts))
        return [-float(value) for value in mean_N.tolist()]
