"""What every prompt promises, run over every file of `prompts/` by discovery."""

import random
from collections.abc import Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path

import pytest
import torch

from savile import registry
from savile.export import prompt as prompt_yaml
from savile.export.base import Customization
from savile.job import encode
from savile.ladder.neighbors import Neighbors
from savile.ladder.written import frame_from_json, frame_json
from savile.lm import sentences
from savile.lm.generate import greedy
from savile.lm.local import Local
from savile.lm.model import LM
from savile.lm.tree import Paths, build
from savile.prompts.base import Frame, Prompt
from savile.spec import Candidate
from savile.types import Example, Message
from tests import tiny
from tests.contracts.tree_gate import LIMIT, eager
from tests.gates import Gate

NAMES = sorted(registry.parts("prompts"))
FRAME = Frame(
    instruction="Name the color.",
    system="You are terse.",
    labels=("red", "green", "blue"),
    json_schema='{"type": "object"}',
    regex="[a-z]+",
)
TRAIN = [
    Example(
        id=f"t{i:02}",
        input=f"thing {i}",
        output=FRAME.labels[i % 3],
        rationale=f"Thing {i} leaves {i % 3}.",
    )
    for i in range(24)
]
QUESTION = Example(id="q", input="thing 99", output="red")
FEW_ROWS = {"searched_prompt": {"judged": 12}}
"""Settings that leave something to chance with so few training rows."""


@pytest.fixture(params=NAMES)
def prompt(request: pytest.FixtureRequest) -> Prompt:
    made: Prompt = registry.load("prompts", request.param)(**FEW_ROWS.get(request.param, {}))
    return made


@pytest.fixture(autouse=True)
def letters_for_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra's encoder need not be installed here: letters are counted instead."""
    monkeypatch.setattr(sentences, "encode", lambda encoder, texts: tiny.letters(texts))


class KnowsAll:
    """A base that works out every training row as the data do."""

    def answers(
        self, chats: Sequence[Sequence[Message]], *, max_new_tokens: int, stop: Sequence[str] = ()
    ) -> list[str]:
        by_input = {row.input: replace(FRAME, reasoning=True).target(row) for row in TRAIN}
        return [by_input[chat[-1].content.split("\n")[0]] for chat in chats]

    def logprobs(self, chats: Sequence[Sequence[Message]], answers: Sequence[str]) -> list[float]:
        return [-float(sum(map(ord, chat[1].content))) for chat in chats]

    def probabilities(self, frame: Frame, rows: Sequence[Example]) -> list[float]:
        return [characters(frame.messages(row)) % 7 / int(row.id[1:] + "7") for row in rows]


def fold(prompt: Prompt, seed: int, train: list[Example] = TRAIN) -> Frame:
    return located(prompt.fit(FRAME, train, random.Random(seed), KnowsAll()))


def located(frame: Frame) -> Frame:
    return Neighbors().located(Local(tiny.lm("llama")), frame, [*TRAIN, QUESTION])


def test_the_seed_decides_and_the_order_of_rows_does_not(prompt: Prompt) -> None:
    assert fold(prompt, 1) == fold(prompt, 1)
    assert fold(prompt, 1) == fold(prompt, 1, TRAIN[::-1])
    assert (len({str(fold(prompt, seed)) for seed in range(8)}) > 1) is type(prompt).stochastic


def test_rendering_twice_gives_the_same_bytes(prompt: Prompt) -> None:
    lm = tiny.lm("llama")
    first, second = (fold(prompt, 2).messages(QUESTION) for _ in range(2))
    assert first == second
    assert lm.encode_prompt(first) == lm.encode_prompt(second)


def test_the_given_frame_stays_as_it_was(prompt: Prompt) -> None:
    before = str(FRAME)
    fold(prompt, 0)
    assert str(FRAME) == before


def test_demonstrations_are_training_rows(prompt: Prompt) -> None:
    frame = fold(prompt, 3)
    for question in (QUESTION, *TRAIN):
        shown = frame.shown(question)
        assert set(shown) <= set(frame.examples) <= set(TRAIN)
        assert len({example.id for example in shown}) == len(shown)


def test_a_frame_is_read_back_from_its_file(prompt: Prompt, gate: Gate) -> None:
    frame = fold(prompt, 6)
    again = frame_from_json(frame_json(frame))
    assert again == frame
    gate(prompt, "resume", again != frame, "frame")


def test_it_comes_back_from_its_export(prompt: Prompt, tmp_path: Path, gate: Gate) -> None:
    frame = fold(prompt, 6)
    made = Customization(
        candidate=Candidate(name="own"), frame=frame, max_new_tokens=4, example=QUESTION, lm=None
    )
    prompt_yaml.Prompt().write(made, tmp_path)
    again = located(prompt_yaml.read(tmp_path))
    assert again == frame
    asked = [QUESTION, *TRAIN]
    differ = sum(again.messages(question) != frame.messages(question) for question in asked)
    gate(prompt, "export", differ, "prompt")


def wide() -> LM:
    """Return a tiny base whose context holds any prompt here."""
    lm = tiny.lm("llama", seed=2)
    lm.model.config.max_position_embeddings = 4096
    return lm


def test_the_answers_of_a_batch_are_those_of_single_runs(prompt: Prompt, gate: Gate) -> None:
    lm, frame = wide(), fold(prompt, 3)
    prompts = [lm.encode_prompt(frame.messages(row)) for row in (QUESTION, *TRAIN[:3])]
    together = greedy(lm, prompts, 6)
    alone = [greedy(lm, [one], 6)[0] for one in prompts]
    assert together == alone
    assert any(together)
    gate(prompt, "batch", sum(a != b for a, b in zip(together, alone, strict=True)), "answers")


@torch.no_grad()
def test_a_tree_equals_separate_sequences(prompt: Prompt, gate: Gate) -> None:
    """Every label after every question, whatever they share."""
    lm, frame = wide(), fold(prompt, 3)
    labels = [lm.encode_completion(label) for label in FRAME.labels]
    prompts = [lm.encode_prompt(frame.messages(row)) for row in (QUESTION, *TRAIN[:2])]
    found = lm.sequence_logprobs(build([Paths(one, labels) for one in prompts]))
    with eager(lm):
        trees = [build([Paths(one, [label])]) for one in prompts for label in labels]
        wanted = torch.cat([lm.sequence_logprobs(tree) for tree in trees])
    error = float(((found - wanted) / wanted).abs().max())
    assert error <= LIMIT
    gate(prompt, "tree", error, "log p")


def test_no_prompt_is_longer_than_the_longest(prompt: Prompt) -> None:
    frame = fold(prompt, 7)
    longest = frame.longest().messages(QUESTION)
    for question in TRAIN:
        chat = frame.messages(question)
        assert len(chat) == len(longest)
        assert characters(chat[:-1]) <= characters(longest[:-1])


def characters(chat: list[Message]) -> int:
    return sum(len(message.content) for message in chat)


def test_a_row_is_never_trained_on_beside_itself(prompt: Prompt) -> None:
    lm, frame = tiny.lm("llama"), fold(prompt, 3)
    rows = encode(lm, frame, TRAIN)
    assert not any(example in frame.shown(example) for example in TRAIN if frame.retriever)
    shown = {example.id for example in frame.demonstrations}
    asked = [example for example in TRAIN if example.id not in shown]
    assert len(rows) == len(asked)
    for row, example in zip(rows, asked, strict=True):
        text = lm.tokenizer.decode(row.prompt)
        assert text.count(f"user\n{frame.messages(example)[-1].content}<") == 1


def test_the_chat_is_in_order(prompt: Prompt) -> None:
    frame = fold(prompt, 4)
    chat = frame.messages(QUESTION)
    roles = [message.role for message in chat]
    head = ["system"] * (frame.format.instruction == "system")
    assert roles == [*head, *["user", "assistant"] * len(frame.shown(QUESTION)), "user"]
    assert QUESTION.input in chat[-1].content
    assert all(QUESTION.output not in m.content for m in chat[-1:])
    for turn, shown in zip(chat[2:-1:2], frame.shown(QUESTION), strict=True):
        assert turn.content == frame.target(shown)


def test_a_written_target_is_read_back(prompt: Prompt) -> None:
    frame = fold(prompt, 5)
    assert all(frame.parse(frame.target(example)) == example.output for example in TRAIN)


@pytest.mark.parametrize("axis", registry.AXES)
def test_the_description_equals_the_class(axis: registry.Axis) -> None:
    for name, part in registry.parts(axis).items():
        cls = registry.load(axis, name)
        known = {field.name: field for field in fields(cls)}
        assert [setting.name for setting in part.settings] == list(known)
        for setting in part.settings:
            field = known[setting.name]
            assert setting.annotation == field.type, (name, setting.name)
            missing = setting.default is registry.MISSING
            assert missing is (field.default is MISSING)
            assert missing or setting.default == field.default
            assert setting.doc, f"{name}.{setting.name} has no docstring"
        assert part.summary
        assert tuple(cls.needs) == part.needs
        for fact, value in part.facts.items():
            assert getattr(cls, fact) == value
