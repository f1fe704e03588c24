"""Samples of a technique: who may answer, and that a sample depends on nothing but its own seed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from savile import data
from savile import spec as specs
from savile.errors import UsageError
from savile.ladder.drawing import Answering, Drawing, answering, draw, was_cut
from savile.lm.base import Answer, Answers, Asked, Base, Chat
from savile.prompts.base import Frame
from savile.prompts.base_calibration import Calibration
from savile.spec import Spec
from savile.types import Example
from tests import small_case


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Spec:
    folder = tmp_path_factory.mktemp("drawing")
    task = small_case.write_case(folder, small_case.write_base(folder / "base"))
    text = task.read_text(encoding="utf-8").replace("prompt: {labels: [yes, no]}", "prompt: {}")
    task.write_text(text, encoding="utf-8")
    return specs.load(task)


def drawn(spec: Spec, rows: list[Example], drawing: Drawing, seed: int = 0) -> list[list[str]]:
    with answering(spec, data.load(spec), drawing, rows) as model:
        found = draw(model, rows, drawing, seed, lambda rows: None)
    return [[answer.text for answer in own] for own in found]


def test_a_sample_does_not_depend_on_what_else_is_answered(spec: Spec) -> None:
    rows = list(data.load(spec).train[:12])
    drawing = Drawing(technique="{few_shot: {k: 2}}", samples=3)
    together = drawn(spec, rows, drawing)
    assert [drawn(spec, [row], drawing)[0] for row in rows[:4]] == together[:4]
    assert drawn(spec, rows[::-1], drawing)[::-1] == together
    assert drawn(spec, rows, drawing, seed=1) != together
    more = drawn(spec, rows, Drawing(technique="{few_shot: {k: 2}}", samples=4))
    assert [own[:3] for own in more] == together
    assert len({text for own in together for text in own}) > 12


class Heard(Base):
    """Remembers how it was asked."""

    def answers(self, chats: Sequence[Chat], asked: Asked) -> Answers:
        self.asked = asked
        yield [(row, Answer("", None, 1, 1)) for row in range(len(chats)) for _ in range(asked.n)]

    def prompt_tokens(self, chat: Chat) -> int:
        raise NotImplementedError

    def answer_tokens(self, text: str) -> int:
        raise NotImplementedError

    def tally(self) -> Mapping[str, Any]:
        raise NotImplementedError


def test_samples_are_asked_for_as_the_technique_asks() -> None:
    rows, drawing = [Example(id="1", input="x", output="yes")], Drawing(samples=3, top_p=0.5)
    written = Frame(stop=("\n",), samples=9, temperature=0.2, seed=7)
    base = Heard()
    draw(Answering(base, written, 5, "technique"), rows, drawing, 1, lambda rows: None)
    assert base.asked.stop == ("\n",)
    sampled = (base.asked.n, base.asked.temperature, base.asked.top_p, base.asked.seed)
    assert sampled == (3, 1.0, 0.5, 1)
    chosen = Frame(
        labels=("yes", "no"),
        length_normalized=True,
        calibration=Calibration(inputs=("N/A",), examples=True),
    )
    draw(Answering(base, chosen, 5, "technique"), rows, drawing, 1, lambda rows: None)
    assert base.asked.labels == ("yes", "no")
    assert base.asked.length_normalized
    assert base.asked.neutral == (chosen.neutral(rows[0]),)


def test_progress_counts_rows(spec: Spec) -> None:
    rows, told = list(data.load(spec).train[:12]), list[int]()
    drawing = Drawing(samples=2)
    with answering(spec, data.load(spec), drawing, rows) as model:
        draw(model, rows, drawing, 0, told.append)
    assert told == sorted(told)
    assert told[-1] == 12


def test_an_answer_at_the_limit_or_the_end_of_the_context_was_cut(spec: Spec) -> None:
    rows = list(data.load(spec).train[:1])
    with answering(spec, data.load(spec), Drawing(), rows) as model:
        whole = Answer("x", None, 1, model.limit - 1)
        assert not was_cut(model, rows[0], whole)
        assert was_cut(model, rows[0], whole._replace(completion_tokens=model.limit))
        assert not was_cut(model, rows[0], whole._replace(label="x", completion_tokens=99))
        assert model.base.context is not None
        room = model.base.context - model.base.prompt_tokens(model.frame.messages(rows[0]))
        tight = model._replace(limit=10**6)
        assert was_cut(tight, rows[0], whole._replace(completion_tokens=room))
        assert not was_cut(tight, rows[0], whole._replace(completion_tokens=room - 1))


@pytest.mark.parametrize(
    ("technique", "words"),
    [
        ("lora", "'lora' has to be trained.*--run DIR --technique NAME"),
        ("few_sot", "unknown technique 'few_sot'; did you mean 'few_shot'"),
        ("{few_shot: {k: 0}}", "--technique: .*k"),
        ("system", "'system' cannot run: it needs a system prompt"),
        ("[", "--technique"),
    ],
)
def test_what_cannot_answer_is_said(spec: Spec, technique: str, words: str) -> None:
    with (
        pytest.raises(UsageError, match=words),
        answering(spec, data.load(spec), Drawing(technique=technique), []),
    ):
        pass


def test_a_name_on_the_ladder_has_its_settings(spec: Spec) -> None:
    with answering(spec, data.load(spec), Drawing(technique="few_shot(k=2)"), []) as model:
        assert len(model.frame.demonstrations) == 2


def test_a_run_that_is_not_there_is_said(spec: Spec, tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="holds no finished run"),
        answering(spec, data.load(spec), Drawing(run=tmp_path), []),
    ):
        pass


@pytest.mark.parametrize(
    "wrong",
    [{"samples": 1}, {"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.5}, {"rows": 0},
     {"per_row": 0}, {"temperature": float("nan")}, {"temperature": float("inf")}],
    ids=str,
)  # fmt: skip
def test_settings_out_of_range_are_said_all_at_once(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(wrong))}: is out of range"):
        Drawing(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError) as caught:
        Drawing(**{"samples": 0, **wrong, "per_row": -1})  # type: ignore[arg-type]
    assert len(caught.value.problems) >= 2
