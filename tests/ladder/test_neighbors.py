"""Neighbors by vectors, and whole runs of the prompts that look for examples."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from savile import api
from savile.errors import UsageError
from savile.ladder.neighbors import Neighbors
from savile.ladder.shown import check_shown, shown_record
from savile.lm import sentences
from savile.lm.local import Local
from savile.lm.states import mean_states
from savile.predict import predict
from savile.prompts.base import Frame
from savile.prompts.nearest import Nearest
from savile.retrieval import BASE, Retriever
from savile.types import Example
from tests import small_case, tiny

TRAIN = [
    Example(id=f"t{i:02}", input=f"{verb} {noun}", output="yes" if noun[0] <= "k" else "no")
    for i, (verb, noun) in enumerate(
        (verb, noun) for verb in small_case.VERBS[:3] for noun in small_case.NOUNS
    )
]
QUESTIONS = [Example(id=f"q{n}", input=f"kept {n}", output="") for n in small_case.NOUNS]


def test_nearest_by_states_is_the_highest_centered_cosine() -> None:
    lm = tiny.lm("llama")
    pool = tuple(TRAIN)
    frame = Frame(retriever=Retriever(pool=pool, k=4, order="nearest_first", embedder=BASE))
    found = Neighbors().located(Local(lm), frame, [*QUESTIONS, *TRAIN])
    known = mean_states(lm, [row.input for row in pool])
    mean = known.mean(0)
    for question in (*QUESTIONS, *TRAIN):
        own = mean_states(lm, [question.input])[0] - mean
        alike = [
            own @ (v - mean) / np.linalg.norm(own) / np.linalg.norm(v - mean)
            if row.input != question.input
            else -np.inf
            for row, v in zip(pool, known, strict=True)
        ]
        shown = found.shown(question)
        assert question not in shown
        got = [alike[pool.index(row)] for row in shown]
        np.testing.assert_allclose(got, sorted(alike, reverse=True)[:4], atol=1e-4)


def test_a_text_is_embedded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def encode(encoder: str, texts: Sequence[str]) -> Any:
        asked.extend(texts)
        return tiny.letters(texts)

    monkeypatch.setattr(sentences, "encode", encode)
    neighbors, base = Neighbors(), Local(tiny.lm("llama"))
    frame = Frame(retriever=Retriever(pool=tuple(TRAIN), k=2, embedder="acme/encoder"))
    first = neighbors.located(base, frame, QUESTIONS)
    again = neighbors.located(base, frame, [*QUESTIONS, *TRAIN])
    assert len(asked) == len(set(asked)) == len(TRAIN) + len(QUESTIONS)
    assert all(first.shown(row) == again.shown(row) for row in QUESTIONS)
    assert first.portable() == frame


def test_tree_and_separate_sequences_answer_the_same() -> None:
    frame = Nearest(k=3).fit(Frame(instruction="Sort."), TRAIN, random.Random(0))
    tree, plain = tiny.lm("llama"), tiny.lm("llama")
    plain.uses_tree = False
    plain.model.set_attn_implementation("eager")
    a, b = (predict(Local(lm), frame, QUESTIONS, max_new_tokens=6) for lm in (tree, plain))
    assert [p.text for p in a] == [p.text for p in b]
    assert tree.uses_tree
    assert len({p.text for p in a}) > 1


def test_a_row_that_is_not_train_may_not_be_shown() -> None:
    frame = Frame(retriever=Retriever(pool=tuple(TRAIN), k=2))
    check_shown(frame, TRAIN, QUESTIONS)
    stranger = replace(QUESTIONS[0], output="yes")
    for other in (
        Frame(demonstrations=(stranger,)),
        Frame(retriever=Retriever(pool=(stranger,), k=1)),
        Frame(demonstrations=(replace(TRAIN[0], output="other"),)),
    ):
        with pytest.raises(AssertionError, match="is no training row"):
            check_shown(other, TRAIN, QUESTIONS)


def test_the_record_changes_with_every_word_that_is_shown() -> None:
    frames = [
        Frame(demonstrations=tuple(rows))
        for rows in (TRAIN[:2], TRAIN[1::-1], TRAIN[:3], [TRAIN[0], replace(TRAIN[1], output="x")])
    ]
    assert len({str(shown_record(frame)) for frame in frames}) == 4
    assert shown_record(Frame()) == {}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> api.Run:
    folder = tmp_path_factory.mktemp("nearest")
    base = small_case.write_base(folder / "base")
    ladder = (
        "[zero_shot, {nearest: {k: 3}}, {nearest_states: {k: 2}}, {diverse: {k: 2}}, "
        "{nearest+lora: {nearest: {k: 1}, lora: {learning_rate: 0.02}}}, "
        "{nearest_states+full: {nearest_states: {k: 1}, full: {learning_rate: 0.01}}}, "
        "nearest_sentences]"
    )
    spec = small_case.write_case(folder / "case", base, ladder=ladder)
    return api.run(spec, folder / "run")


def test_whole_runs(run: api.Run) -> None:
    rows = {row["technique"].split("(")[0]: row for row in run.board}
    assert rows.pop("nearest_sentences")["status"] == "failed"
    assert all(row["status"] == "ok" for row in rows.values())
    assert rows["nearest"]["seeds"] == rows["nearest_states"]["seeds"] == 1
    assert rows["nearest"]["labels_used"] == 48
    assert rows["diverse"]["labels_used"] == 2


def test_the_extra_that_is_missing_is_the_reason_of_its_row(run: api.Run) -> None:
    reason = next(r["reason"] for r in run.board if r["technique"] == "nearest_sentences")
    assert "savile[sentences]" in reason


@pytest.mark.parametrize(
    ("name", "n"),
    [("nearest(k=3)", 48), ("diverse(k=2)", 2), ("nearest(k=1)+lora(learning_rate=0.02)", 48)],
)
def test_a_trial_says_which_rows_it_may_show(run: api.Run, name: str, n: int) -> None:
    results = [json.loads(f.read_text()) for f in sorted(run.folder.glob("trials/*/result.json"))]
    shown = next(r["shown"] for r in results if r["technique"] == name and "shown" in r)
    assert shown["n"] == n
    assert len(shown["sha256"]) == 64


def test_more_examples_than_train_has_are_refused(tmp_path: Path) -> None:
    base = small_case.write_base(tmp_path / "base")
    spec = small_case.write_case(tmp_path, base, ladder="[{nearest: {k: [3, 49]}}]")
    with pytest.raises(UsageError, match=r"'nearest\(k=49\)' shows 49 .* train has 48 rows"):
        api.run(spec, tmp_path / "run")


@pytest.mark.parametrize("name", ["nearest(k=3)", "nearest_states(k=1)+full(learning_rate=0.01)"])
def test_a_measured_technique_finds_examples_for_new_inputs(run: api.Run, name: str) -> None:
    answers = run.technique(name).predict(["lost cup", "a text that no row is like"])
    assert set(answers) <= {"yes", "no"}
