"""What every objective promises, run over every file of `objectives/` by discovery."""

import itertools
import math
import random
from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from savile import registry
from savile.deltas.base import Attached
from savile.deltas.full import Full
from savile.lm.model import LM
from savile.lm.tree import Tree
from savile.objectives.base import (
    Batch,
    Compared,
    Encoded,
    Objective,
    Odds,
    Teacher,
    TrainingData,
    Written,
)
from tests import tiny
from tests.contracts.tree_gate import LIMIT, eager, shake
from tests.gates import Gate

NAMES = sorted(registry.parts("objectives"))


@pytest.fixture(params=NAMES)
def objective(request: pytest.FixtureRequest) -> Objective:
    made: Objective = registry.load("objectives", request.param)()
    return made


def letters(written: Sequence[Written]) -> list[float]:
    """A reward that any answer has some of: the share of its tokens above 70."""
    return [sum(t > 70 for t in one.answer) / max(len(one.answer), 1) for one in written]


class Knows(Teacher):
    """A teacher with an answer and odds for every row."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def answers(self) -> list[str]:
        return ["yes no"] * self.rows

    def odds(self, rows: Sequence[Encoded], top_k: int) -> list[Odds]:
        logits = torch.randn(tiny.VOCABULARY, generator=torch.Generator().manual_seed(6))
        best = logits.log_softmax(-1).topk(min(top_k, tiny.VOCABULARY))
        n = [len(row.completion) for row in rows]
        return [Odds(best.indices.expand(t, -1), best.values.expand(t, -1)) for t in n]


def data(tokens_per_tree: int = 4096, batch_size: int = 6) -> TrainingData:
    rng = random.Random(4)
    stem = [1, *range(30, 40)]

    def prompt() -> list[int]:
        return [*stem, *rng.choices(range(40, 60), k=rng.randint(1, 9))]

    def answer() -> list[int]:
        return [*rng.choices(range(60, 80), k=rng.randint(1, 5)), 4]

    return TrainingData(
        rows=[Encoded(prompt(), answer()) for _ in range(9)],
        preferences=[Compared(prompt(), answer(), answer()) for _ in range(9)],
        batch_size=batch_size,
        tokens_per_tree=tokens_per_tree,
        max_new_tokens=6,
        reward=letters,
        teacher=Knows(9),
    )


def model(objective: Objective, family: str = "llama") -> LM:
    """Return a model that carries the objective's heads."""
    lm = tiny.lm(family)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lm.heads = objective.modules(lm)
    return lm


def steps(objective: Objective, lm: LM, given: TrainingData, n: int) -> list[Sequence[Batch]]:
    items = objective.items(lm, given)
    return list(itertools.islice(objective.batches(lm, given, items, random.Random(1)), n))


def test_the_same_generator_gives_the_same_batches(objective: Objective) -> None:
    lm = model(objective)
    first, second = (steps(objective, lm, data(), 4) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        for x, y in zip(a, b, strict=True):
            assert np.array_equal(x.tree.tokens, y.tree.tokens)
            assert np.array_equal(x.tree.targets.token, y.tree.targets.token)
            assert (x.share, x.examples) == (y.share, y.examples)


def test_the_shares_of_a_step_add_up(objective: Objective) -> None:
    lm, given = model(objective), data(tokens_per_tree=16, batch_size=3)
    for step in steps(objective, lm, given, 6):
        assert sum(batch.examples for batch in step) == 3
        assert sum(batch.share for batch in step) == pytest.approx(1.0)
        assert len(step) > 1


class Step(NamedTuple):
    """What one optimizer step comes to."""

    loss: float
    gradients: dict[str, Tensor]


def computed(objective: Objective, lm: LM, attached: Attached, step: Sequence[Batch]) -> Step:
    """Return the loss of a step and the gradient of everything that gets one."""
    total = 0.0
    for batch in step:
        loss, _ = objective.loss(lm, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    named = {**attached.parameters(), **dict(nn.ModuleDict(lm.heads).named_parameters())}
    found = {name: p.grad.clone() for name, p in named.items() if p.grad is not None}
    for parameter in named.values():
        parameter.grad = None
    return Step(total, found)


def errors(found: Step, wanted: Step) -> tuple[float, float]:
    """Return the relative errors of the loss, and the largest of a gradient."""
    assert found.gradients.keys() == wanted.gradients.keys()
    apart = [
        float((found.gradients[name] - gradient).norm() / gradient.norm())
        for name, gradient in wanted.gradients.items()
        if bool(gradient.any())
    ]
    return abs(found.loss - wanted.loss) / abs(wanted.loss), max(apart)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_accumulation_changes_no_gradient(objective: Objective, family: str, gate: Gate) -> None:
    lm = model(objective, family)
    found: list[Step] = []
    for tokens_per_tree in (1, 60, 10_000):
        step = steps(objective, lm, data(tokens_per_tree), 1)[0]
        with Full().attach(lm, 0) as attached:
            found.append(computed(objective, lm, attached, step))
    single, *others = found
    for other in others:
        loss, gradient = errors(other, single)
        assert max(loss, gradient) <= LIMIT
        gate(objective, "batch", loss, "loss")
        gate(objective, "batch", gradient, "gradient")


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt_neox"])
def test_a_tree_equals_separate_sequences(objective: Objective, family: str, gate: Gate) -> None:
    """The reference is transformers' own eager attention, one example at a time."""
    lm, found = model(objective, family), []
    for tokens_per_tree, context in ((10_000, nullcontext()), (1, eager(lm))):
        step = steps(objective, lm, data(tokens_per_tree), 1)[0]
        with Full().attach(lm, 0) as attached, context:
            shake(attached, 0.01)  # away from the policy that is the reference
            found.append(computed(objective, lm, attached, step))
    loss, gradient = errors(*found)
    assert max(loss, gradient) <= LIMIT
    gate(objective, "tree", loss, "loss")
    gate(objective, "tree", gradient, "gradient")


class _Fixed:
    """Stands for a model's logits: one leaf tensor over all nodes of the tree."""

    def __init__(self, lm: LM, tree: Tree, size: float) -> None:
        rng = torch.Generator().manual_seed(0)
        signs = torch.randint(2, (len(tree), tiny.VOCABULARY), generator=rng) * 2.0 - 1
        self.leaf = (signs * size).requires_grad_()
        self.hidden = torch.randn(len(tree), tiny.WIDTH, generator=rng).requires_grad_()
        lm._serving = lambda depth: None  # type: ignore[method-assign]
        lm.logits = self.logits  # type: ignore[method-assign, assignment]
        lm.logits_and_hidden = self.both  # type: ignore[method-assign]

    def logits(self, tree: Tree, nodes: np.ndarray, layout: object = None) -> Tensor:
        return self.leaf[torch.as_tensor(nodes)]

    def both(self, tree: Tree, nodes: np.ndarray) -> tuple[Tensor, Tensor]:
        return self.logits(tree, nodes), self.hidden[torch.as_tensor(nodes)]


def test_it_is_finite_at_huge_logits(objective: Objective) -> None:
    lm = model(objective)
    batch = steps(objective, lm, data(), 1)[0][0]
    fixed = _Fixed(lm, batch.tree, 50.0)
    loss, _ = objective.loss(lm, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    assert bool(torch.isfinite(loss))
    gradients = [leaf.grad for leaf in (fixed.leaf, fixed.hidden) if leaf.grad is not None]
    assert gradients
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


def test_prompt_tokens_give_no_gradient(objective: Objective) -> None:
    lm = model(objective)
    given = data()
    batch = steps(objective, lm, given, 1)[0][0]
    fixed = _Fixed(lm, batch.tree, 1.0)
    objective.loss(lm, batch)[0].backward()  # type: ignore[no-untyped-call]
    leaves = [leaf.grad for leaf in (fixed.leaf, fixed.hidden) if leaf.grad is not None]
    with_gradient = {int(n) for grad in leaves for n in torch.nonzero(grad.any(-1)).flatten()}
    assert with_gradient
    predicting = set(batch.tree.targets.source.tolist())
    assert with_gradient <= predicting
    assert len(predicting) < len(batch.tree)
    last = (
        min(len(row.prompt) for row in (*given.rows, *given.preferences)) - 1
    )  # nothing before a prompt's last token
    assert all(batch.tree.depth[node] >= last for node in with_gradient)


@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_what_never_changes_is_computed_at_the_start(objective: Objective, family: str) -> None:
    """A policy that has not moved is as good as its reference: dev judgements repeat."""
    lm, given = model(objective, family), data()
    items = objective.items(lm, given)
    first = objective.judge(lm, given, items)
    assert first == pytest.approx(objective.judge(lm, given, items))
    assert all(math.isfinite(value) for value in first if value is not None)


def states(n: int) -> list[dict[str, Tensor]]:
    """Return n states of one shape, and of types that weights come in."""
    rng = torch.Generator().manual_seed(n)
    return [
        {
            "a": torch.randn(4, 6, generator=rng),
            "b": torch.randn(9, generator=rng).to(torch.bfloat16),
        }
        for _ in range(n)
    ]


def test_copies_merge_to_a_state_of_their_shape_by_the_seed(objective: Objective) -> None:
    start, *copies = states(objective.copies + 1)
    if objective.copies == 1:
        with pytest.raises(NotImplementedError, match="merges nothing"):
            objective.merged(copies, start, 0)
        return
    assert objective.modules(tiny.lm("llama")) == {}  # a head would not be merged
    merged = objective.merged(copies, start, 0)
    again = objective.merged(copies, start, 0)
    for name, tensor in start.items():
        assert (merged[name].shape, merged[name].dtype) == (tensor.shape, tensor.dtype)
        assert torch.equal(merged[name], again[name])
        assert bool(torch.isfinite(merged[name]).all())
        assert not any(torch.equal(merged[name], state[name]) for state in (start, *copies))
    still = objective.merged([start] * objective.copies, start, 0)
    assert all(torch.equal(still[name], tensor) for name, tensor in start.items())
