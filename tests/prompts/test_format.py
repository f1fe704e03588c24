"""A form changes how a prompt is written, never what is meant: what is rendered is read back."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from savile.errors import UsageError
from savile.export import prompt as prompt_yaml
from savile.export.base import Customization
from savile.ladder.written import frame_from_json, frame_json
from savile.lm.local import Local
from savile.predict import asked_of, predict
from savile.prompts.base import Frame
from savile.prompts.base_format import Format
from savile.prompts.format import Formatted
from savile.spec import Candidate
from savile.types import Example, Message
from tests import tiny

SHOWN = (Example(id="1", input="good", output="pos"), Example(id="2", input="bad", output="neg"))
QUESTION = Example(id="q", input="fine", output="pos")
FRAME = Frame(instruction="Judge.", system="Be terse.", labels=("pos", "neg"), demonstrations=SHOWN)
SWAPPED = {"pos": "neg", "neg": "pos"}


def turns(frame: Frame) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in frame.messages(QUESTION)]


def form(**changes: Any) -> Frame:
    return Formatted(**changes).fit(FRAME, SHOWN, random.Random(0))


def test_plain_text_holds_all_examples_in_one_turn() -> None:
    text = "Input: good\nOutput: pos\n\nInput: bad\nOutput: neg\n\nInput: fine\nOutput:"
    assert turns(form()) == [("system", "Judge."), ("user", text)]


@pytest.mark.parametrize(
    ("place", "first", "last"),
    [
        ("system", "Q good", "Q fine\nA"),
        ("start", "Judge.\nQ good", "Q fine\nA"),
        ("before", "Q good", "Judge.\nQ fine\nA"),
        ("after", "Q good", "Q fine\nJudge.\nA"),
    ],
)
@pytest.mark.parametrize("use_system", [True, False])
def test_the_instruction_stands_once_and_where_it_is_put(
    place: str, first: str, last: str, use_system: bool
) -> None:
    given = form(turns="chat", instruction=place, input_label="Q", output_label="A")
    head, *rest = turns(replace(given, use_system=True, system="Be terse."))
    assert head == ("system", "Be terse.\nJudge." if place == "system" else "Be terse.")
    said = rest if use_system else [turn for turn in turns(given) if turn[0] != "system"]
    answered = [("assistant", "pos"), ("user", "Q bad\nA"), ("assistant", "neg")]
    assert said == [("user", f"{first}\nA"), *answered, ("user", last)]


def test_in_plain_text_the_start_is_a_part_of_its_own() -> None:
    frame = form(instruction="start", between="\n--\n", separator=" | ")
    ((_, text),) = turns(frame)
    *examples, asked = [
        "Input: good | Output: pos",
        "Input: bad | Output: neg",
        "Input: fine | Output:",
    ]
    assert text == "\n--\n".join(["Judge.", *examples, asked])


def test_the_form_that_is_not_changed_is_the_chat_as_ever() -> None:
    assert turns(replace(FRAME, format=Format())) == [
        ("system", "Judge."),
        ("user", "good"),
        ("assistant", "pos"),
        ("user", "bad"),
        ("assistant", "neg"),
        ("user", "fine"),
    ]


@pytest.mark.parametrize("reasoning", [True, False])
@pytest.mark.parametrize("words", [{"pos": "great", "neg": "very poor"}, {"neg": "nope"}, SWAPPED])
def test_words_are_shown_and_read_back_as_labels(words: dict[str, str], reasoning: bool) -> None:
    frame = replace(form(words=words), reasoning=reasoning)
    for row in (*SHOWN, QUESTION):
        row = replace(row, rationale="It is.")
        assert frame.target(row).endswith(words.get(row.output, row.output))
        assert frame.parse(frame.target(row)) == row.output
        assert frame.parse(f"{frame.target(row).upper()}.") == row.output
    if not reasoning:
        assert frame.parse("great, very poor") == "great, very poor"


def test_words_are_scored_in_the_place_of_labels() -> None:
    """The base chooses among the words, so exchanging them exchanges every answer."""
    base, rows = Local(tiny.lm("llama")), [replace(QUESTION, input=text) for text in "abcdef"]
    plain, swapped = (replace(form(words=words), demonstrations=()) for words in ({}, SWAPPED))
    assert asked_of(swapped, 8).labels == ("neg", "pos")
    said = [[one.answer for one in predict(base, frame, rows)] for frame in (plain, swapped)]
    assert said[1] == [SWAPPED[str(answer)] for answer in said[0]]


@pytest.mark.parametrize(
    ("words", "labels", "said"),
    [
        ({"positive": "good"}, ("pos", "neg"), "'positive' is no label"),
        ({"pos": "same", "neg": "same"}, ("pos", "neg"), "'same' stands for two labels"),
        ({"pos": "neg"}, ("pos", "neg"), "'neg' stands for two labels"),
        ({"pos": "  "}, ("pos", "neg"), "the label 'pos' has no words"),
        ({"pos": "good"}, (), "'pos' is no label"),
    ],
)
def test_words_that_mean_nothing_are_refused(
    words: dict[str, str], labels: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        Formatted(words=words).fit(Frame(labels=labels), SHOWN, random.Random(0))


def test_a_message_is_never_empty_of_its_question() -> None:
    empty = replace(QUESTION, input="")
    assert Frame().messages(empty) == [Message(role="user", content="")]


def test_a_form_with_words_comes_back_from_its_files(tmp_path: Path) -> None:
    frame = replace(form(words={"pos": "yes", "neg": "a\nb: c"}, turns="chat"), stop=("x",))
    assert frame_from_json(frame_json(frame)) == frame
    made = Customization(
        candidate=Candidate(name="own"), frame=frame, max_new_tokens=4, example=QUESTION, lm=None
    )
    prompt_yaml.Prompt().write(made, tmp_path)
    assert prompt_yaml.read(tmp_path) == frame
    assert prompt_yaml.read(tmp_path).messages(QUESTION) == frame.messages(QUESTION)
