"""A teacher on the board: the student learns from it and is held against it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from savile import spec as specs
from savile.errors import UsageError
from savile.ladder import run as ladder
from savile.ladder.teaching import Teaching
from savile.lm.local import Local
from savile.lm.tree import Paths, build
from savile.objectives.base import Encoded, Odds, Teacher, TrainingData
from savile.objectives.distill import Distill, soft_loss
from savile.objectives.distill_text import DistillText
from savile.prompts.base import Frame
from savile.types import Example, Prediction
from tests import small_case, tiny
from tests.gates import Gate
from tests.objectives.test_sft import loop

NAME = "teacher {}: few_shot(k=2)"


def write(folder: Path, ladder_text: str, margin: float = 1.0) -> tuple[Path, str]:
    student = small_case.write_base(folder / "student")
    teacher = small_case.write_base(folder / "large", seed=4)
    section = f"teacher: {{base: {teacher}, technique: {{few_shot: {{k: 2}}}}, margin: {margin}}}"
    task = small_case.write_case(folder / "case", student, ladder=ladder_text, more=[section])
    return task, NAME.format(teacher)


def test_the_teacher_is_a_row_and_every_technique_is_held_against_it(tmp_path: Path) -> None:
    rate = "{learning_rate: 0.02}"
    tuned = ", ".join(f"{{{n}: {{lora: {rate}}}}}" for n in ("lora+distill", "lora+distill_text"))
    items = f"[zero_shot, {tuned}]"
    task, name = write(tmp_path, items)
    document = ladder.run(specs.load(task), tmp_path / "run")
    rows = {row["technique"]: row for row in document["board"]}
    teacher = rows[name]
    assert (teacher["status"], teacher["kind"], teacher["compared"]) == ("ok", "prompt", {})
    others = [row for n, row in rows.items() if n != name and row["kind"] != "baseline"]
    assert len(others) == 3
    for row in others:
        assert row["status"] == "ok", row["reason"]
        of_teacher = row["compared"]["of_teacher"]
        assert of_teacher["value"] == pytest.approx(row["score"] - teacher["score"])
        assert "teacher" in row["reason"]
        assert "its FLOPs a request" in row["reason"]
    assert all(row["compared"] == {} for row in rows.values() if row["kind"] == "baseline")


def test_without_a_teacher_distillation_says_what_it_needs(tmp_path: Path) -> None:
    base = small_case.write_base(tmp_path / "base")
    task = small_case.write_case(tmp_path / "case", base, ladder="[zero_shot, lora+distill]")
    document = ladder.run(specs.load(task), tmp_path / "run")
    (row,) = [row for row in document["board"] if row["technique"] == "lora+distill"]
    assert (row["status"], row["reason"]) == ("not_run", "needs a model to learn from (teacher)")


def test_another_vocabulary_is_a_row_with_its_reason(tmp_path: Path) -> None:
    task, _ = write(tmp_path, "[zero_shot, {lora+distill: {lora: {learning_rate: 0.02}}}]")
    tokens = tiny.tokenizer()
    tokens.add_tokens(["entirely"])
    tokens.save_pretrained(tmp_path / "large")
    document = ladder.run(specs.load(task), tmp_path / "run")
    (row,) = [row for row in document["board"] if row["technique"].startswith("lora")]
    assert row["status"] == "failed"
    assert "does not share the base's vocabulary" in row["reason"]
    assert "distill_text" in row["reason"]


def test_a_teacher_is_asked_by_a_prompt(tmp_path: Path) -> None:
    base = small_case.write_base(tmp_path / "base")
    more = ["teacher: {base: embedded, technique: lora}"]
    task = small_case.write_case(tmp_path / "case", base, more=more)
    with pytest.raises(UsageError, match="should be a prompt technique"):
        specs.load(task)


def test_a_teacher_lacks_what_its_prompt_needs(tmp_path: Path) -> None:
    base = small_case.write_base(tmp_path / "base")
    more = [f"teacher: {{base: {base}, technique: system}}"]
    task = small_case.write_case(tmp_path / "case", base, ladder="[zero_shot]", more=more)
    with pytest.raises(UsageError, match=r"teacher.technique: needs a system prompt"):
        ladder.run(specs.load(task), tmp_path / "run")


class Knows(Teacher):
    """Says one thing of everything."""

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits, self.asked = logits, 0

    def answers(self) -> list[str]:
        self.asked += 1
        return ["yes", " ", "no"]

    def odds(self, rows: Any, top_k: int) -> list[Odds]:
        self.asked += 1
        best = self.logits.log_softmax(-1).topk(top_k)
        n = [len(row.completion) for row in rows]
        return [Odds(best.indices.expand(t, -1), best.values.expand(t, -1)) for t in n]


ROWS = [Encoded([1, 20, 21], [50, 51, 4]), Encoded([1, 20], [60, 4]), Encoded([1, 30], [61, 4])]


def given(teacher: Teacher) -> TrainingData:
    return TrainingData(rows=ROWS, batch_size=3, tokens_per_tree=4096, teacher=teacher)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_distillation_is_its_formula(alpha: float, gate: Gate) -> None:
    lm = tiny.lm("llama")
    logits = torch.randn(tiny.VOCABULARY, generator=torch.Generator().manual_seed(2))
    objective = Distill(alpha=alpha, temperature=3.0, top_k=tiny.VOCABULARY)
    items = objective.items(lm, given(Knows(logits)))
    found = sum(float(objective.loss(lm, b)[0]) for b in objective.trees(items, 4096))
    total = []
    for row in ROWS:
        tree = build([Paths(row.prompt, [row.completion])])
        own = lm.logits(tree, tree.targets.source).double()
        hard = -own.log_softmax(-1)[range(len(row.completion)), row.completion]
        wanted = (logits.double() / 3).softmax(-1)
        soft = 9 * (wanted * (wanted.log() - (own / 3).log_softmax(-1))).sum(-1)
        total.append((1 - alpha) * hard + alpha * soft)
    value = float(torch.cat(total).mean())
    assert found == pytest.approx(value, rel=1e-5)
    gate(objective, "parity", abs(found - value) / value, "the formula, loss")


def test_a_student_that_agrees_loses_nothing() -> None:
    logits = torch.randn(5, 7)
    assert soft_loss(logits, logits + 3.0, 2.0).abs().max() < 1e-6
    assert soft_loss(logits, logits.flip(-1), 2.0).min() > 0


def test_the_text_of_a_teacher_replaces_the_answers(gate: Gate) -> None:
    lm, teacher = tiny.lm("llama"), Knows(torch.zeros(tiny.VOCABULARY))
    objective = DistillText()
    items = objective.items(lm, given(teacher))
    assert teacher.asked == 1
    assert items == [
        Encoded(ROWS[0].prompt, lm.encode_completion("yes")),
        Encoded(ROWS[2].prompt, lm.encode_completion("no")),
    ]
    with torch.no_grad():
        found = sum(float(objective.loss(lm, b)[0]) for b in objective.trees(items, 4096))
    value = loop(lm, items)
    assert found == pytest.approx(value, rel=1e-5)
    gate(objective, "parity", abs(found - value) / value, "a loop over transformers' logits, loss")


def test_a_row_without_its_steps_is_not_distilled() -> None:
    rows = [*ROWS, Encoded([1, 40], [])]
    teacher = Knows(torch.zeros(tiny.VOCABULARY))
    data = TrainingData(rows=rows, batch_size=4, tokens_per_tree=4096, teacher=teacher)
    assert [one.row for one in Distill(top_k=4).items(tiny.lm("llama"), data)] == ROWS


def test_a_teacher_keeps_its_likeliest_tokens_alone() -> None:
    lm = tiny.lm("llama")
    teaching = Teaching(base=Local(lm), frame=Frame(), train=())
    examples = [Example(id=str(n), input=f"put {n}", output="yes") for n in range(3)]
    rows = [Encoded(lm.encode_prompt(Frame().messages(e)), [50, 4]) for e in examples]
    rows[1] = Encoded(rows[1].prompt, [])
    found = teaching.of(lm, Frame())(rows, examples).odds(rows, 5)
    assert [odds.tokens.shape for odds in found] == [(2, 5), (0, 5), (2, 5)]
    tree = build([Paths(rows[2].prompt, [[50, 4]])])
    own = lm.logits(tree, tree.targets.source).log_softmax(-1)
    torch.testing.assert_close(found[2].logprobs, own.topk(5).values, rtol=1e-4, atol=1e-4)
    assert all(
        odds.logprobs.untyped_storage().nbytes() <= 2 * 5 * 4 for odds in teaching.kept.values()
    )


@pytest.mark.parametrize(
    ("teachers", "students", "text", "wanted"),
    [
        (False, False, "yes", "yes"),
        (True, False, "It is early. Answer: yes", "yes"),
        (False, True, "yes", "Answer: yes"),
        (True, True, "It is early. Answer: yes", "It is early. Answer: yes"),
        (True, True, "It is early.", ""),
    ],
)
def test_a_student_learns_a_text_that_its_frame_can_read(
    teachers: bool, students: bool, text: str, wanted: str
) -> None:
    lm, teacher, student = tiny.lm("llama"), Frame(reasoning=teachers), Frame(reasoning=students)
    said = Prediction(id="a", text=text, answer=teacher.parse(text))
    teaching = Teaching(base=Local(lm), frame=teacher, train=(), said={"a": said})
    rows = [Example(id="a", input="put", output="no", rationale="its own steps")]
    assert teaching.of(lm, student)([], rows).answers() == [wanted]
    assert student.parse(wanted) == teacher.parse(text)
