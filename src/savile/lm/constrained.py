"""Masks over the vocabulary that hold written answers to a JSON schema or a regular expression.

    logit(token) = -inf where the grammar has no text that begins with what is written and the token

Each answer has a state of its own; the grammar is read and the vocabulary indexed once.

Source: Willard and Louf 2023, arXiv 2307.09702; the automata are llguidance's (extra
`constrained`), because a grammar engine is a project of its own.
Cost: one mask an answer and token, microseconds to a millisecond on one core.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from savile.errors import EnvironmentProblem, Problem, UsageError
from savile.lm.generate import TreePick, end_tokens
from savile.lm.model import LM
from savile.prompts.base_constraint import Constraint

LIBRARY: Final = "llguidance"
WHITE_SPACE: Final = r"[ \n]?"
"""Between the parts of JSON: without a bound a model may write it until it is cut."""


class Grammar:
    """A constraint over one model's vocabulary."""

    def __init__(self, lm: LM, constraint: Constraint) -> None:
        """Index the vocabulary and read the grammar.

        Raises:
            EnvironmentProblem: the library is not installed.
            UsageError: it cannot use the schema or expression.
        """
        library = _library()
        ends = [lm.template.end, *sorted(end_tokens(lm) - {lm.template.end})]
        vocabulary = library.hf.from_tokenizer(
            lm.tokenizer, n_vocab=len(lm.sites.embedding_weight), eos_token=ends
        )
        self._start = library.LLMatcher(vocabulary, _written(library.LLMatcher, constraint))
        _check(self._start, constraint)
        self.constraint = constraint

    def masks(self, n: int) -> Masks:
        """Return the states of `n` answers at their beginning."""
        return Masks([self._start.deep_copy() for _ in range(n)], self.constraint)


class Masks:
    """Where each of several answers stands in the grammar."""

    def __init__(self, states: Sequence[Any], constraint: Constraint) -> None:
        """Take a matcher for each answer."""
        self._states, self.constraint = states, constraint

    def over(self, pick: TreePick) -> TreePick:
        """Return `pick` where only tokens are left that the grammar allows."""

        def allowed(rows: Sequence[int], logits: Tensor, running: Sequence[int]) -> list[int]:
            states = [self._states[rows[n]] for n in running]
            chosen = pick(rows, self._masked(states, logits), running)
            for state, token in zip(states, chosen, strict=True):
                state.consume_token(token)
                _check(state, self.constraint)
            return chosen

        return allowed

    def _masked(self, states: Sequence[Any], logits_AV: Tensor) -> Tensor:
        rows = [np.frombuffer(state.compute_logit_bias(), np.uint8) for state in states]
        refused_AV = torch.from_numpy(np.stack(rows) == 0).to(logits_AV.device)
        return logits_AV.masked_fill(refused_AV, float("-inf"))


def _written(matcher: Any, constraint: Constraint) -> str:
    if constraint.kind == "regex":
        return str(matcher.grammar_from_regex(constraint.text))
    options = {"whitespace_pattern": WHITE_SPACE}
    return str(matcher.grammar_from_json_schema(json.loads(constraint.text), options))


def _check(state: Any, constraint: Constraint) -> None:
    if state.is_error():
        found = " ".join(str(state.get_error()).split())[:200]
        what = "answers cannot be held to it"
        raise UsageError(Problem(where=f"prompt.{constraint.kind}", what=what, found=found))


def _library() -> Any:
    try:
        importlib.import_module(f"{LIBRARY}.hf")
        return importlib.import_module(LIBRARY)
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(
            Problem(
                what="constrained answers need llguidance, which is not installed",
                found=str(error),
                fix="Install it: pip install 'savile[constrained]'",
            )
        ) from error
