"""Samples and stop strings of a base whose weights are here."""

import random
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from savile.lm import load
from savile.lm.base import Answer, Asked, Chat, before, seed_of
from savile.lm.local import Local
from savile.lm.model import LM
from savile.lm.tree import Paths, build
from savile.types import Message
from tests import tiny

QUESTIONS = ["a", "b", "ab" * 9, "a", "the same start, one end", "the same start, another end"]
LENGTH = 12


def chat(text: str) -> Chat:
    return [Message(role="user", content=text)]


def ask(lm: LM, texts: Sequence[str], asked: Asked) -> list[list[Answer]]:
    found: list[list[Answer]] = [[] for _ in texts]
    for group in Local(lm).answers([chat(text) for text in texts], asked):
        for row, answer in group:
            found[row].append(answer)
    return found


def texts_of(found: Sequence[Sequence[Answer]]) -> list[list[str]]:
    return [[answer.text for answer in own] for own in found]


def drawing(n: int, **more: object) -> Asked:
    return Asked(max_new_tokens=LENGTH, n=n, temperature=1.5, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom"])
def test_samples_do_not_depend_on_what_else_is_asked(family: str) -> None:
    lm, asked = tiny.lm(family), drawing(3, seed=5)
    together = texts_of(ask(lm, QUESTIONS, asked))
    alone = [texts_of(ask(lm, [text], asked))[0] for text in QUESTIONS]
    order = random.Random(1).sample(range(len(QUESTIONS)), len(QUESTIONS))
    shuffled = texts_of(ask(lm, [QUESTIONS[row] for row in order], asked))
    assert together == alone
    assert [together[row] for row in order] == shuffled
    assert together[0] == together[3]
    assert len({tuple(own) for own in together}) == len(set(QUESTIONS))
    assert texts_of(ask(lm, QUESTIONS, drawing(3, seed=6))) != together


def test_the_samples_of_a_smaller_n_are_the_first_of_a_larger_one() -> None:
    lm = tiny.lm("mistral")
    nine = texts_of(ask(lm, QUESTIONS, drawing(9)))
    assert len(set(nine[0])) > 3
    for n in (1, 3, 5):
        assert texts_of(ask(lm, QUESTIONS, drawing(n))) == [own[:n] for own in nine]


def test_seeds_differ_by_seed_chat_and_number_and_fit_31_bits() -> None:
    made = {
        seed_of(seed, chat(text), sample)
        for seed in (0, 1)
        for text in ("a", "b")
        for sample in range(5)
    }
    assert len(made) == 20
    assert all(0 <= seed < 2**31 for seed in made)
    assert seed_of(0, chat("a"), 0) == seed_of(0, chat("a"), 0)


def test_the_samples_of_a_prompt_share_its_tokens() -> None:
    lm = tiny.lm("llama")
    lm.work.tokens = 0
    ask(lm, ["a question"], Asked(max_new_tokens=1))
    once = lm.work.tokens
    (found,) = ask(lm, ["a question"], Asked(max_new_tokens=1, n=8, temperature=1.0))
    assert lm.work.tokens == 2 * once
    assert [answer.prompt_tokens for answer in found] == [once, *[0] * 7]


def test_many_samples_of_many_chats_go_into_trees_of_bounded_size() -> None:
    lm = tiny.lm("llama")
    chats = [chat(str(number)) for number in range(20)]
    groups = list(Local(lm).answers(chats, Asked(max_new_tokens=1, n=9, temperature=1.0)))
    assert max(len(group) for group in groups) <= 64
    counted = Counter(row for group in groups for row, _ in group)
    assert counted == dict.fromkeys(range(20), 9)


def test_low_temperature_is_greedy_and_a_narrow_nucleus_too() -> None:
    lm = tiny.lm("llama")
    greedy = texts_of(ask(lm, QUESTIONS, Asked(max_new_tokens=LENGTH)))
    for how in ({"temperature": 1e-4}, {"temperature": 1.0, "top_p": 1e-9}):
        asked = Asked(max_new_tokens=LENGTH, n=2, **how)  # type: ignore[arg-type]
        assert texts_of(ask(lm, QUESTIONS, asked)) == [own * 2 for own in greedy]


def test_labels_are_drawn_by_their_likelihoods() -> None:
    lm, labels, n = tiny.lm("llama"), ("yes", "no", "not sure"), 2000
    prompt = lm.encode_prompt(chat("is it?"))
    choices = [lm.encode_completion(label) for label in labels]
    with torch.no_grad():
        scores = lm.sequence_logprobs(build([Paths(prompt, choices)])).double()
    odds = (scores / 3.0).softmax(-1).tolist()
    (found,) = ask(lm, ["is it?"], Asked(labels=labels, n=n, temperature=3.0))
    counts = Counter(answer.label for answer in found)
    for label, chance in zip(labels, odds, strict=True):
        assert abs(counts[label] / n - chance) < 4 * (0.25 / n) ** 0.5
    assert found[1].completion_tokens == len(choices[labels.index(found[1].text)])
    (fewer,) = ask(lm, ["is it?"], Asked(labels=labels, n=7, temperature=3.0))
    assert fewer == found[:7]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"n": 0}, "1 or more"),
        ({"n": 2}, "all samples of a chat are equal"),
        ({"temperature": -1.0}, "0 or more"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p"),
        ({"stop": ("a", "")}, "empty stop string"),
    ],
)
def test_what_cannot_be_asked_is_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Asked(**wrong)  # type: ignore[arg-type]


# ── stop strings ─────────────────────────────────────────────────────────────────────────────


def first_complete(text: str, stop: Sequence[str]) -> str:
    """Read letter by letter, as a writer would stop."""
    for end in range(len(text) + 1):
        places = [end - len(one) for one in stop if text[:end].endswith(one)]
        if places:
            return text[: min(places)]
    return text


@given(st.text("ab ", max_size=12), st.lists(st.text("ab ", min_size=1, max_size=4), max_size=4))
def test_a_text_is_cut_where_a_stop_string_is_complete_first(text: str, stop: list[str]) -> None:
    assert before(text, stop) == first_complete(text, stop)


@cache
def base(name: str) -> LM:
    return load.load("embedded", folder=Path()) if name == "embedded" else tiny.lm(name)


@cache
def in_full(name: str, text: str, temperature: float) -> tuple[str, int]:
    """Return the whole text that a base writes without stop strings, and its tokens."""
    lm, asked = base(name), Asked(max_new_tokens=24, temperature=temperature)
    ids: list[Sequence[int]] = []
    written = lm.template.written

    def watched(found: Sequence[int]) -> str:
        ids.append(found)
        return written(found)

    lm.template.written = watched  # type: ignore[method-assign]
    try:
        ask(lm, [text], asked)
    finally:
        lm.template.written = written  # type: ignore[method-assign]
    return written(ids[-1]), len(ids[-1])


@pytest.mark.parametrize("temperature", [0.0, 1.2])
@pytest.mark.parametrize("name", ["embedded", "llama", "bloom"])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_stopping_equals_writing_in_full_and_cutting(
    name: str, temperature: float, data: st.DataObject
) -> None:
    question = data.draw(
        st.sampled_from(
            ["think step by step . i have 3 points . plus 4 . minus 2 . what is left ?", "x"]
        )
    )
    text, tokens = in_full(name, question, temperature)
    at = st.integers(0, max(len(text) - 1, 0))
    pieces = [
        text[start : start + n]
        for start, n in data.draw(st.lists(st.tuples(at, st.integers(1, 7)), max_size=3))
    ]
    never = data.draw(st.lists(st.text(min_size=3, max_size=5), max_size=1))
    stop = tuple(one for one in [*pieces, *never] if one and "\N{REPLACEMENT CHARACTER}" not in one)
    asked = Asked(max_new_tokens=24, temperature=temperature, stop=stop)
    ((answer,),) = ask(base(name), [question], asked)
    assert answer.text == before(text, stop).strip()
    assert answer.completion_tokens <= tokens


def test_rows_that_met_a_stop_string_leave_the_batch() -> None:
    lm = tiny.lm("llama")
    asked, letters = Asked(max_new_tokens=24), list("abcdefghijkl")
    both = zip(letters, ask(lm, letters, asked), strict=True)
    (a, first), (b, second) = [one for one in both if one[1][0].completion_tokens == 24][:2]
    sign = next(s for s in first[0].text if s.isascii() and s not in second[0].text)
    spent = []
    for stop in ((), (sign,)):
        lm.work.tokens = 0
        found = ask(lm, [a, b], Asked(max_new_tokens=24, stop=stop))
        spent.append(lm.work.tokens)
    left_out = 24 - found[0][0].completion_tokens
    assert found[0][0].text == first[0].text.partition(sign)[0].strip()
    assert found[1] == second
    assert spent[0] - spent[1] == left_out > 0
