import math

import pytest

from savile.lm.endpoint.labels import ASKED, likeliest, naming, read
from savile.lm.endpoint.replies import Step
from savile.types import Message

ANSWERS = ("yes", "no", "not sure", "No comment")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("yes", "yes"),
        ("  yes\n", "yes"),
        ("YES.", "yes"),
        ("**No**", "no"),
        ('"not sure"', "not sure"),
        ("no comment!", "No comment"),
        ("The answer is yes.", "yes"),
        ("I am not sure about it", "not sure"),
        ("Label: No comment", "No comment"),
        ("no, not sure", None),
        ("yes and no", None),
        ("nothing", None),
        ("yesterday", None),
        ("", None),
        ("...", None),
    ],
)
def test_a_label_is_read_from_a_text(text: str, label: str | None) -> None:
    assert read(text, ANSWERS) == label


def test_labels_that_differ_only_by_case_are_told_apart_by_their_own_letters() -> None:
    assert read("US", ("US", "us")) == "US"
    assert read("us", ("US", "us")) == "us"
    assert read("Us", ("US", "us")) is None


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("B", "B"),
        ("The answer is B.", "B"),
        ("(b)", "B"),
        ("a refund is due", None),
        ("A or B", None),
    ],
)
def test_a_single_letter_is_no_word_of_the_text(text: str, label: str | None) -> None:
    assert read(text, ("A", "B")) == label


def test_marks_inside_labels_are_no_patterns() -> None:
    labels = ("C++", "C", "c.*", "(a)")
    assert read("It is C++ here", labels) == "C++"
    assert read("It is C here", labels) == "C"
    assert read("say (a) then", labels) == "(a)"


def test_an_empty_label_is_found_in_nothing_but_an_empty_text() -> None:
    assert read("", ("", "x")) == ""
    assert read("y", ("", "x")) is None


def test_labels_are_named_after_the_system_text_or_before_everything() -> None:
    question = Message(role="user", content="q")
    named = naming([question], ("a", "b, c"))
    assert named == [Message(role="system", content=f"{ASKED}\na\nb, c"), question]
    system = Message(role="system", content="Be brief.")
    named = naming([system, question], ("a",))
    assert named == [Message(role="system", content=f"Be brief.\n{ASKED}\na"), question]


def steps(*found: tuple[str, Step]) -> list[tuple[str, Step]]:
    """Probabilities as log-probabilities."""
    return [(piece, {t: math.log(p) for t, p in others.items()}) for piece, others in found]


def test_the_likeliest_label_is_that_of_the_first_piece_that_decides() -> None:
    assert (
        likeliest(steps(("Hm", {"Hm": 0.7, " yes": 0.1, "Yes": 0.1, "no comment": 0.15})), ANSWERS)
        == "yes"
    )


def test_a_piece_that_several_labels_begin_with_decides_nothing() -> None:
    shared = steps(("Hm", {"Hm": 0.5, "n": 0.4, "y": 0.1}))
    assert likeliest(shared, ANSWERS) == "yes"
    assert likeliest(shared, ("no", "not sure")) is None


def test_a_written_piece_is_followed_to_where_labels_part() -> None:
    followed = steps(
        ("not", {"not": 0.8, "yes": 0.1}),
        (" at", {" at": 0.6, " sure": 0.3}),
        (" all", {" all": 1.0}),
    )
    assert likeliest(followed, ("no", "not sure", "yes")) == "not sure"


def test_without_probabilities_or_with_equal_ones_nothing_is_chosen() -> None:
    assert likeliest([], ANSWERS) is None
    assert likeliest(steps(("x", {})), ANSWERS) is None
    assert likeliest(steps(("x", {"x": 0.4, "yes": 0.3, "no comment": 0.3})), ANSWERS) is None
    assert likeliest(steps(("x", {"x": 0.9, " ": 0.1})), ANSWERS) is None
