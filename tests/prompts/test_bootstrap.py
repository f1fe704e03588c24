"""Bootstrapped steps: which rows are kept, how many are asked, what is said when none is."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from savile.errors import DataError
from savile.prompts.base import Frame, fold
from savile.prompts.bootstrap import Bootstrap
from savile.types import Example, Message

FRAME = Frame(instruction="Add.", answer_marker="So:", trigger="Think.")
TRAIN = [Example(id=f"{i:02}", input=f"{i} + 1", output=str(i + 1)) for i in range(40)]


class Base:
    """Says what it is told about the row a chat asks for, and remembers the chats."""

    def __init__(self, says: Callable[[int], str]) -> None:
        self.says, self.chats = says, list[Sequence[Message]]()

    def answers(
        self, chats: Sequence[Sequence[Message]], *, max_new_tokens: int, stop: Sequence[str] = ()
    ) -> list[str]:
        self.chats += chats
        self.stop = tuple(stop)
        return [self.says(int(chat[-1].content.split()[0])) for chat in chats]


def right(i: int) -> str:
    return f"{i} and one more. So: {i + 1}."


def even(i: int) -> str:
    return right(i) if i % 2 == 0 else f"Hm. So: {i}"


def test_the_steps_that_reach_the_answer_are_shown_with_the_answer_of_the_data() -> None:
    frame = Bootstrap(k=5).fit(FRAME, TRAIN, random.Random(0), Base(even))
    assert len(frame.demonstrations) == 5
    assert frame.reasoning
    for row in frame.demonstrations:
        assert int(row.input.split()[0]) % 2 == 0
        assert row.rationale == f"{row.input.split()[0]} and one more."
        assert frame.target(row) == f"{row.rationale} So: {row.output}"
        assert replace(row, rationale=None) in TRAIN


def test_the_base_is_asked_without_examples_with_the_trigger() -> None:
    base = Base(right)
    given = replace(FRAME, demonstrations=(TRAIN[0],), samples=3, temperature=1.0)
    Bootstrap(k=2).fit(given, TRAIN, random.Random(0), base)
    assert {len(chat) for chat in base.chats} == {2}
    assert all(chat[-1].content.endswith("\nThink.") for chat in base.chats)


@pytest.mark.parametrize(
    "says",
    [
        lambda i: f"Just so. So: {i}",
        lambda i: f"{i + 1}",
        lambda i: f"So: {i + 1}",
        lambda i: "",
        lambda i: f"Steps. So: the answer is {i + 1}",
    ],
)
def test_wrong_bare_and_unreadable_answers_are_no_examples(says: Callable[[int], str]) -> None:
    with pytest.raises(DataError, match="solved none of 7 training rows"):
        Bootstrap(k=3, tries=7).fit(FRAME, TRAIN, random.Random(0), Base(says))


def test_answers_end_where_those_of_the_technique_do() -> None:
    base = Base(right)
    Bootstrap(k=2).fit(replace(FRAME, stop=("\n\n",)), TRAIN, random.Random(0), base)
    assert base.stop == ("\n\n",)


def test_no_more_rows_are_asked_than_are_needed_or_allowed() -> None:
    knows, rarely = Base(right), Base(lambda i: right(i) if i in (3, 30) else "")
    Bootstrap(k=4).fit(FRAME, TRAIN, random.Random(0), knows)
    assert len(knows.chats) == 8
    frame = Bootstrap(k=4, tries=64).fit(FRAME, TRAIN, random.Random(0), rarely)
    assert len(rarely.chats) == 40 == Bootstrap(tries=64).asks(40)
    assert {row.id for row in frame.demonstrations} == {"03", "30"}
    assert Bootstrap(tries=10).asks(40) == 10


def test_an_estimate_s_frame_has_the_longest_steps_and_asks_nobody() -> None:
    (estimated,) = {fold([Bootstrap(k=4, max_new_tokens=90)], FRAME, TRAIN, 1)}
    shown = estimated.demonstrations
    assert [len(row.rationale or "") for row in shown] == [90] * 4


def test_accepted_answers_count() -> None:
    rows = [replace(row, output="x", references=("x", row.output)) for row in TRAIN]
    frame = Bootstrap(k=2).fit(FRAME, rows, random.Random(0), Base(right))
    assert len(frame.demonstrations) == 2
