"""Every objective learns on the shapes of Llama, Qwen2 and GPT-NeoX: its own loss falls on what it
is shown, and what is trained on a reward earns more of it."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from savile import registry
from savile.chain import train_chain
from savile.deltas.full import Full
from savile.job import Job, training_data
from savile.lm.model import LM
from savile.objectives.base import Encoded, Objective, Odds, Reward, Teacher
from savile.train import carrying
from savile.types import Example
from tests import tiny
from tests.gates import Gate
from tests.test_chain import job

RATE = 5e-3
"""Peak learning rate of every objective here, for all weights of a model of 32 columns."""


@pytest.fixture(params=["llama", "qwen2", "gpt_neox"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Sure(Teacher):
    """A teacher that knows the wanted answers."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples

    def answers(self) -> list[str]:
        return [example.output for example in self.examples]

    def odds(self, rows: Sequence[Encoded], top_k: int) -> list[Odds]:
        found = []
        for row in rows:
            logits = torch.zeros(len(row.completion), tiny.VOCABULARY)
            logits[range(len(row.completion)), row.completion] = 8.0
            best = logits.log_softmax(-1).topk(top_k)
            found.append(Odds(best.indices, best.values))
        return found


def even(rows: Sequence[Encoded], examples: Sequence[Example]) -> Reward:
    """The reward is what the user says: here, the share of even tokens."""
    return lambda written: [sum(t % 2 == 0 for t in w.answer) / len(w.answer) for w in written]


def given(lm: LM, rows: Sequence[Example], objective: Objective, examples: int) -> Job:
    made = job(lm, rows, examples)
    rate = RATE / type(objective).rate_factor
    plan = replace(made.plan, learning_rate=rate)
    return replace(made, plan=plan, reward=even, teacher=lambda encoded, asked: Sure(asked))


def names(rewarded: bool) -> list[str]:
    found = registry.parts("objectives").items()
    return sorted(name for name, part in found if ("reward" in part.needs) is rewarded)


@pytest.mark.parametrize("name", names(rewarded=False))
def test_its_loss_falls(
    name: str, family: str, trained: Callable[[str], LM], eight: list[Example], gate: Gate
) -> None:
    lm, objective = trained(family), registry.load("objectives", name)()
    task = given(lm, eight, objective, 320)
    with Full().attach(lm, 0) as attached:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            heads = objective.modules(lm)
        dev = training_data(task, task.dev, task.dev_preferences)
        with carrying(lm, heads):
            before = objective.judge(lm, dev, objective.items(lm, dev))[1]
        made = train_chain(task, [objective], attached).trained
    assert made.status == "ok"
    assert made.dev_loss is not None
    assert made.dev_loss < 0.8 * before
    assert lm.heads == {}
    gate(name, "families", made.dev_loss / before, family)


@pytest.mark.parametrize("name", names(rewarded=True))
def test_its_reward_rises(name: str, family: str, eight: list[Example], gate: Gate) -> None:
    lm, objective = tiny.lm(family), registry.load("objectives", name)()
    with Full().attach(lm, 0) as attached:
        made = train_chain(given(lm, eight, objective, 1024), [objective], attached).trained
    assert made.status == "ok"
    first, last = (entry for entry in made.history if "reward" in entry)
    assert last["reward"] > first["reward"] + 0.05
    assert last["kl"] > 0
    assert lm.heads == {}
    gate(name, "families", last["reward"] - first["reward"], f"{family}, reward gained")
