"""A frame renders examples into chats and reads answers back out of texts."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from savile.prompts.base import Frame
from savile.types import Example, Message

QUESTION = Example(id="q", input="2 + 2?", output="4", rationale="Two and two make four.")


def test_system_and_instruction_share_the_first_turn() -> None:
    frame = Frame(instruction="Add.", system="You are terse.", use_system=True)
    assert frame.messages(QUESTION)[0] == Message(role="system", content="You are terse.\nAdd.")
    hidden = Frame(instruction="Add.", system="You are terse.")
    assert hidden.messages(QUESTION)[0].content == "Add."
    assert Frame(system="x").messages(QUESTION) == [Message(role="user", content="2 + 2?")]


def test_reasoning_asks_shows_and_reads() -> None:
    frame = Frame(reasoning=True, trigger="Think.", answer_marker="So:")
    assert frame.messages(QUESTION)[-1].content == "2 + 2?\nThink."
    assert frame.target(QUESTION) == "Two and two make four. So: 4"
    assert frame.parse(frame.target(QUESTION)) == "4"


def test_with_reasoning_a_target_is_shown_only_with_its_steps() -> None:
    bare, blank = (replace(QUESTION, rationale=steps) for steps in (None, " \n"))
    assert Frame(reasoning=True).shows_target(QUESTION)
    assert not Frame(reasoning=True).shows_target(bare)
    assert not Frame(reasoning=True).shows_target(blank)
    assert Frame().shows_target(bare)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Answer: 4", "4"),
        ("first Answer: 3, no. answer:  4 ", "4"),
        ("no marker", None),
        ("Answer:", None),
        ("Answer:  \n ", None),
        ("İİİİİİİİ Answer: 4", "4"),
        ("ANSWER: yes\nand more", "yes\nand more"),
    ],
)
def test_the_answer_stands_after_the_last_marker(text: str, answer: str | None) -> None:
    assert Frame(reasoning=True).parse(text) == answer


def test_without_reasoning_the_text_is_the_answer() -> None:
    assert Frame().parse("  four \n") == "four"
    assert Frame().parse(" \n ") is None


def test_a_marker_is_no_pattern() -> None:
    frame = Frame(reasoning=True, answer_marker="(.*)$")
    assert frame.parse("a (.*)$ b") == "b"
    assert frame.parse("a b") is None


@given(st.text(), st.text(min_size=1).filter(str.strip))
def test_any_answer_is_read_back(steps: str, answer: str) -> None:
    frame = Frame(reasoning=True)
    if "answer:" in answer.lower():
        return
    row = Example(id="1", input="q", output=answer, rationale=steps)
    assert frame.parse(frame.target(row)) == answer.strip()


def test_the_trigger_names_the_marker_that_is_looked_for() -> None:
    frame = Frame(reasoning=True, answer_marker="Final:")
    asked = frame.question(Example(id="1", input="2 + 2?", output="4"))
    assert "'Final:'" in asked
    assert frame.parse("2 and 2 make 4. Final: 4") == "4"
