"""Several samples become one prediction: the vote, its share, and the cost of all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from savile.deltas.lora import LoRA
from savile.lm.base import Answer, Answers, Asked, Base, Chat
from savile.lm.local import Local
from savile.predict import asked_of, majority, predict
from savile.prompts.base import Frame, fold
from savile.prompts.chain_of_thought import ChainOfThought
from savile.prompts.self_consistency import SelfConsistency
from savile.types import Example
from tests import tiny
from tests.contracts.tree_gate import shake

ROWS = [Example(id=str(i), input=f"question {i}", output="4") for i in range(5)]
VOTING = Frame(reasoning=True, samples=5, temperature=0.7)


class Scripted(Base):
    """Says the same texts to every chat, the last chat first."""

    gives = frozenset()
    name, device, context = "scripted", "cpu", None

    def __init__(self, *texts: str) -> None:
        self.texts, self.asked = texts, list[Asked]()

    def prompt_tokens(self, chat: Chat) -> int:
        return 1

    def answer_tokens(self, text: str) -> int:
        return 1

    def answers(self, chats: Sequence[Chat], asked: Asked) -> Answers:
        self.asked.append(asked)
        for row in reversed(range(len(chats))):
            yield [
                (row, Answer(text, None, 0 if n else 10, 3, 0.5 * (not n), 0.25))
                for n, text in enumerate(self.texts)
            ]

    def tally(self) -> Mapping[str, Any]:
        return {}


@pytest.mark.parametrize(
    ("answers", "place", "share"),
    [
        (["4", "5", "5"], 1, 2 / 3),
        (["5", "4", "4", "5"], 0, 0.5),
        ([None, None, "3", None], 2, 0.25),
        ([None, None], 0, 0.0),
        (["Yes.", "no", "yes", " YES"], 0, 0.75),
        (["4.0", "4", "4."], 1, 2 / 3),
        (["9"], 0, 1.0),
    ],
)
def test_the_answer_of_most_samples_is_taken(
    answers: list[str | None], place: int, share: float
) -> None:
    assert majority(answers) == (place, pytest.approx(share))


def test_labels_vote_as_they_are_written() -> None:
    frame = Frame(labels=("us", "US"), samples=3, temperature=1.0)

    class Chooses(Scripted):
        def answers(self, chats: Sequence[Chat], asked: Asked) -> Answers:
            for group in super().answers(chats, asked):
                yield [(row, one._replace(label=one.text)) for row, one in group]

    (found, *_) = predict(Chooses("us", "US", "US"), frame, ROWS)
    assert (found.answer, found.votes) == ("US", pytest.approx(2 / 3))


@given(st.lists(st.one_of(st.none(), st.sampled_from("abc")), min_size=1, max_size=9))
def test_no_answer_has_more_votes_and_no_earlier_one_as_many(answers: list[str | None]) -> None:
    place, share = majority(answers)
    known = [answer for answer in answers if answer is not None]
    if not known:
        assert (place, share) == (0, 0.0)
        return
    most = max(known.count(answer) for answer in known)
    assert share == most / len(answers)
    assert answers.index(next(a for a in known if known.count(a) == most)) == place


def test_a_prediction_bears_the_winner_s_text_and_the_cost_of_all() -> None:
    base = Scripted("So. Answer: 5", "Well. Answer: 4", "nothing", "Hm. Answer: 4.", "Answer: 3")
    heard: list[int] = []
    found = predict(base, VOTING, ROWS, on_rows=heard.append)
    assert [p.id for p in found] == [row.id for row in ROWS]
    for p in found:
        assert (p.answer, p.text, p.votes) == ("4", "Well. Answer: 4", 0.4)
        assert (p.prompt_tokens, p.completion_tokens, p.seconds, p.usd) == (10, 15, 0.5, 1.25)
    assert sum(heard) == len(ROWS)


def test_one_answer_has_no_votes() -> None:
    (found, *_) = predict(Scripted("Answer: 4"), Frame(reasoning=True), ROWS)
    assert (found.answer, found.votes) == ("4", None)


def test_what_a_frame_says_is_asked() -> None:
    prompts = [ChainOfThought(), SelfConsistency(n=3, temperature=0.5, top_p=0.9)]
    frame = fold(prompts, Frame(stop=("x",), labels=("a", "b")), ROWS, 7)
    asked = asked_of(frame, 33)
    assert (asked.n, asked.temperature, asked.top_p, asked.stop) == (3, 0.5, 0.9, ("x",))
    assert (asked.max_new_tokens, asked.labels, asked.seed) == (33, (), frame.seed)
    chosen = asked_of(replace(frame, reasoning=False), 33)
    assert (chosen.labels, chosen.stop) == (("a", "b"), ())
    greedy = asked_of(Frame(), 5)
    assert (greedy.n, greedy.temperature) == (1, 0.0)


def test_the_seed_of_the_drawing_follows_the_run_s_and_not_n() -> None:
    seeds = {n: fold([SelfConsistency(n=n)], Frame(), ROWS, 1).seed for n in (1, 3, 9)}
    assert len(set(seeds.values())) == 1
    assert fold([SelfConsistency()], Frame(), ROWS, 2).seed != seeds[1]


@pytest.mark.parametrize("labels", [(), ("yes", "no", "perhaps")])
@pytest.mark.parametrize("tuned", [False, True])
def test_it_works_with_labels_and_without_alone_and_under_a_delta(
    labels: tuple[str, ...], tuned: bool
) -> None:
    lm = tiny.lm("llama")
    frames = [fold([SelfConsistency(n=n)], Frame(labels=labels), ROWS, 1) for n in (1, 5)]
    with LoRA(r=2).attach(lm, 0) as attached:
        shake(attached, 0.1 if tuned else 0.0)
        one, five = (predict(Local(lm), frame, ROWS, max_new_tokens=6) for frame in frames)
    for single, several in zip(one, five, strict=True):
        assert several.votes is not None
        assert 0.0 <= several.votes <= 1.0
        assert several.prompt_tokens == single.prompt_tokens
        assert several.completion_tokens >= single.completion_tokens
        assert not labels or several.answer in labels
