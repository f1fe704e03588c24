"""Shared fixtures: one thread, and a tiny base that has learned something a delta can build on."""

from collections.abc import Callable
from functools import cache

import pytest
import torch

from savile.lm.model import LM
from savile.lm.tree import Paths, build
from savile.prompts.base import Frame
from savile.types import Example
from tests import tiny
from tests.gates import Gate, Record

RULES = {"a": "ABCDEFGH", "b": "KLMNOPQR", "c": "abcdefgh", "d": "klmnopqr"}
"""The rules of the tiny world: under rule `b` the answer to `4` is `O`."""


def rows(said: str, rule: str) -> list[Example]:
    """Return the eight questions under one rule, of which `said` names the rule or hides it."""
    return [
        Example(id=f"{said}{rule}{d}", input=f"{said} {d}", output=RULES[rule][d]) for d in range(8)
    ]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Compute on one thread, so that bits do not depend on the machine's cores."""
    torch.set_num_threads(1)


@pytest.fixture
def gate(record_property: Record) -> Gate:
    """Return what records the figures of a test for the table of techniques."""
    return Gate(record_property)


@cache
def learned(family: str) -> dict[str, torch.Tensor]:
    """Return weights of one family that know the four rules, and answer `?` with any of them."""
    lm = LM(tiny.model(family, seed=3, scale=6.0), tiny.tokenizer(), name=family)
    frame = Frame()
    examples = [e for rule in RULES for said in (rule, "?") for e in rows(said, rule)]
    tree = build(
        [
            Paths(lm.encode_prompt(frame.messages(e)), [lm.encode_completion(e.output)])
            for e in examples
        ]
    )
    lm.model.requires_grad_(True)
    optimizer = torch.optim.AdamW(lm.model.parameters(), lr=1e-2, weight_decay=0.0)
    for step in range(150):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - step / 150)
        loss = -lm.logprobs(tree).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    lm.model.requires_grad_(False)
    return {k: v.detach().clone() for k, v in lm.model.state_dict().items()}


@pytest.fixture
def trained() -> Callable[[str], LM]:
    """Return what gives a fresh copy of the trained tiny base of a family."""

    def made(family: str) -> LM:
        model = tiny.model(family, seed=3, scale=6.0)
        model.load_state_dict(learned(family))
        return LM(model, tiny.tokenizer(), name=family)

    return made


@pytest.fixture
def trained_lm(trained: Callable[[str], LM]) -> LM:
    """Return a fresh copy of the trained tiny Llama."""
    return trained("llama")


@pytest.fixture
def eight() -> list[Example]:
    """Return eight rows of one rule whose name is not said: what a delta has to find out."""
    return rows("?", "b")
