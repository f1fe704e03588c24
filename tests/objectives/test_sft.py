"""SFT equals a plain loop over rows and tokens."""

import random
from itertools import islice

import pytest
import torch

from savile.lm.model import LM
from savile.objectives.base import Encoded, TrainingData
from savile.objectives.base_rows import negative_log_likelihood
from savile.objectives.sft import SFT
from tests import tiny
from tests.contracts.tree_gate import eager
from tests.gates import Gate


def rows(n: int) -> list[Encoded]:
    rng = random.Random(n)
    return [
        Encoded(
            [1, 20, 21, *rng.choices(range(30, 50), k=rng.randint(1, 6))],
            [*rng.choices(range(50, 70), k=rng.randint(1, 4)), 4],
        )
        for _ in range(n)
    ]


def loop(lm: LM, given: list[Encoded]) -> float:
    """Return the loss of transformers, row by row and token by token."""
    total, tokens = 0.0, 0
    with eager(lm), torch.no_grad():
        for row in given:
            logits = lm.model(input_ids=torch.tensor([[*row.prompt, *row.completion]])).logits[0]
            for at, token in enumerate(row.completion):
                total -= float(logits[len(row.prompt) + at - 1].log_softmax(-1)[token])
                tokens += 1
    return total / tokens


def test_a_row_that_does_not_show_its_target_teaches_nothing() -> None:
    whole = rows(3)
    data = TrainingData(rows=[*whole, Encoded([1, 20], [])], batch_size=1, tokens_per_tree=50)
    assert SFT().items(tiny.lm("llama"), data) == whole


@pytest.mark.parametrize("budget", [1, 50, 4096])
@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom"])
def test_the_loss_is_the_loop(family: str, budget: int, gate: Gate) -> None:
    lm, given = tiny.lm(family), rows(7)
    with torch.no_grad():
        found = sum(float(SFT().loss(lm, batch)[0]) for batch in SFT().trees(given, budget))
    wanted = loop(lm, given)
    assert found == pytest.approx(wanted, rel=1e-5)
    gate("sft", "parity", abs(found - wanted) / wanted, "a loop over transformers' logits, loss")


def test_the_formula_is_a_weighted_mean() -> None:
    logprobs, weights = torch.tensor([-1.0, -2.0, -4.0]), torch.tensor([1.0, 1.0, 2.0])
    assert float(negative_log_likelihood(logprobs, weights)) == pytest.approx(11 / 4)


@pytest.mark.parametrize("budget", [1, 30, 70, 4096])
def test_trees_keep_to_their_budget_and_lose_no_row(budget: int) -> None:
    given = rows(20)
    packs = SFT().trees(given, budget)
    assert sum(pack.examples for pack in packs) == 20
    assert sum(pack.tree.separate_tokens for pack in packs) == sum(
        len(r.prompt) + len(r.completion) for r in given
    )
    assert all(len(pack.tree) <= budget or pack.examples == 1 for pack in packs)


def test_a_pass_shows_every_row_once() -> None:
    given = [Encoded([1, 20 + i], [60 + i]) for i in range(10)]
    data = TrainingData(rows=given, batch_size=4, tokens_per_tree=4096)
    lm = tiny.lm("llama")
    steps = islice(SFT().batches(lm, data, given, random.Random(0)), 5)  # two passes
    seen = [int(t) for step in steps for b in step for t in b.tree.targets.token]
    assert sorted(seen[:]) == sorted([60 + i for i in range(10)] * 2)
