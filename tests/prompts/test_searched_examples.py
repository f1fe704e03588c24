"""The set of examples that is taken is the likeliest of those that were drawn."""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from savile.lm.fitting import Fitting
from savile.lm.local import Local
from savile.prompts.base import Frame
from savile.prompts.searched_examples import SearchedExamples, likelihood
from savile.types import Example, Message
from tests import tiny

FRAME = Frame(labels=("a", "b"))
TRAIN = [Example(id=f"{i:02}", input=f"x{i}", output="ab"[i % 2]) for i in range(20)]


class LikesOrder:
    """Gives a chat the number of its neighbors that stand in the order of their numbers."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, ...], list[str]] = {}

    def answers(
        self, chats: Sequence[Sequence[Message]], *, max_new_tokens: int, stop: Sequence[str] = ()
    ) -> list[str]:
        raise AssertionError("nothing is written")

    def logprobs(self, chats: Sequence[Sequence[Message]], answers: Sequence[str]) -> list[float]:
        found = []
        for chat in chats:
            *shown, question = [turn.content for turn in chat if turn.role == "user"]
            self.seen.setdefault(tuple(shown), []).append(question)
            found.append(self.value(shown))
        return found

    @staticmethod
    def value(shown: Sequence[str]) -> float:
        return float(sum(int(a[1:]) < int(b[1:]) for a, b in pairwise(shown)))


@pytest.mark.parametrize("seed", range(4))
def test_the_likeliest_of_the_draws_is_shown(seed: int) -> None:
    model = LikesOrder()
    prompt = SearchedExamples(k=4, draws=12, judged=6)
    frame = prompt.fit(FRAME, TRAIN, random.Random(seed), model)
    assert len(model.seen) == 12
    shown = tuple(row.input for row in frame.demonstrations)
    assert model.value(shown) == max(map(model.value, model.seen))
    judged = {tuple(questions) for questions in model.seen.values()}
    assert len(judged) == 1
    (held,) = judged
    assert len(held) == 6
    assert not {row for drawn in model.seen for row in drawn} & set(held)


@pytest.mark.parametrize(("k", "judged"), [(20, 0), (19, 1), (18, 2), (4, 16)])
def test_k_is_shown_and_what_is_left_judges(k: int, judged: int) -> None:
    model = LikesOrder()
    prompt = SearchedExamples(k=k, draws=3)
    frame = prompt.fit(FRAME, TRAIN, random.Random(0), model)
    assert len(set(frame.demonstrations)) == k
    assert {len(questions) for questions in model.seen.values()} == ({judged} if judged else set())


def test_the_likelihood_is_that_of_separate_sequences() -> None:
    lm = tiny.lm("llama")
    model = Fitting(Local(lm))
    frame = replace(FRAME, instruction="Sort.", demonstrations=tuple(TRAIN[:3]))
    rows = TRAIN[3:9]
    found = likelihood(frame, rows, model)
    lm.uses_tree = False
    lm.model.set_attn_implementation("eager")
    assert found == pytest.approx(likelihood(frame, rows, model), rel=1e-4)
    assert found < 0
    assert model.asked == 9


def test_what_exceeds_the_context_is_never_the_likeliest() -> None:
    model = Fitting(Local(tiny.lm("gpt2")))
    rows = [replace(TRAIN[0], input="x" * 300), TRAIN[1]]
    first, second = model.logprobs([FRAME.messages(row) for row in rows], ["a", "b"])
    assert first == -float("inf") < second < 0
