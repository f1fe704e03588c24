"""Shared fixtures: one thread, and a tiny base that has learned something a delta can build on."""

import pytest
import torch

from savile.lm.model import LM
from savile.lm.tree import Paths, build
from savile.prompts.base import Frame
from savile.types import Example
from tests import tiny

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


@pytest.fixture(scope="session")
def trained_weights() -> dict[str, torch.Tensor]:
    """Return Llama weights that know the four rules, and answer `?` with any of them."""
    lm = LM(tiny.model("llama", seed=3, scale=6.0), tiny.tokenizer(), name="llama")
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
def trained_lm(trained_weights: dict[str, torch.Tensor]) -> LM:
    """Return a fresh copy of the trained tiny base."""
    model = tiny.model("llama", seed=3, scale=6.0)
    model.load_state_dict(trained_weights)
    return LM(model, tiny.tokenizer(), name="llama")


@pytest.fixture
def eight() -> list[Example]:
    """Return eight rows of one rule whose name is not said: what a delta has to find out."""
    return rows("?", "b")
