"""A reward that is the user's own function: what it is given, its errors, and a run with it."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from savile import data
from savile import spec as specs
from savile.data import check
from savile.errors import UsageError
from savile.ladder import run as ladder
from savile.ladder.function import RewardFunction, by_function, function_of
from savile.ladder.prepare import prepare
from savile.objectives.base import Encoded, Written
from savile.prompts.base import Frame
from savile.spec.model import Spec
from savile.types import Example
from tests import small_case, tiny

ROW = Example(id="1", input="lost cup", output="yes", source="train.jsonl:3")
EVEN = """
import dataclasses

@dataclasses.dataclass
class Seen:
    calls: int = 0

seen = Seen()

def worth(input: str, answer: str, reference: str) -> float:
    seen.calls += 1
    assert reference in ("yes", "no") and input
    return 100 + sum(ord(letter) % 2 == 0 for letter in answer) / max(len(answer), 1)
"""
RUNS = "[zero_shot, {lora+grpo: {lora: {learning_rate: 0.02}}}, lora+reward+ppo]"


def case(folder: Path, source: str = EVEN, ladder_: str = RUNS) -> Path:
    base = small_case.write_base(folder / "base")
    path = small_case.write_case(
        folder / "case", base, ladder=ladder_, more=["reward: rewards.py:worth"]
    )
    (folder / "case" / "rewards.py").write_text(source, encoding="utf-8")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("train_examples: 320", "train_examples: 96"), encoding="utf-8")
    return path


def of(call: Any) -> RewardFunction:
    return RewardFunction(name="rewards.py:worth", sha256="", call=call)


def test_it_sees_the_question_the_parsed_answer_and_the_wanted_one() -> None:
    lm, calls = tiny.lm("llama"), []

    def worth(*texts: str) -> float:
        calls.append(texts)
        return len(texts[1]) / 2

    frame = Frame(reasoning=True, answer_marker="=")
    texts = ["so it is = yes", "no marker"]
    written = [Written(0, lm.encode_completion(text)) for text in texts]
    made = by_function(lm, frame, of(worth))([Encoded([1], [])], [ROW])
    assert made(written) == [1.5, 0.0]
    assert calls == [("lost cup", "yes", "yes"), ("lost cup", "", "yes")]


@pytest.mark.parametrize("value", [1, True, -0.5, 1e30])
def test_any_finite_number_will_do(value: float) -> None:
    assert of(lambda *_: value)(ROW, "x") == float(value)


@pytest.mark.parametrize("value", [1e39, -1e300])
def test_what_training_cannot_hold_is_refused_before_it_becomes_infinite(value: float) -> None:
    with pytest.raises(UsageError, match="more than 32 bits hold; found for the answer 'x'"):
        of(lambda *_: value)(ROW, "x")


@pytest.mark.parametrize("value", [None, "1", math.nan, math.inf, -math.inf, [1.0], 1j, 10**400])
def test_what_is_no_finite_number_is_refused_with_its_row(value: object) -> None:
    with pytest.raises(UsageError) as found:
        of(lambda *_: value)(ROW, "x")
    said = str(found.value)
    assert said.startswith("rewards.py:worth: returned")
    assert "no finite number; found for the answer 'x' to row train.jsonl:3" in said


def test_what_it_raises_is_told_with_its_row() -> None:
    with pytest.raises(UsageError, match=r"raised ZeroDivisionError: .* to row train.jsonl:3"):
        of(lambda *_: 1 / 0)(ROW, "x")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import a_module_that_is_not_here\n", "ModuleNotFoundError"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("1 / 0\n", "ZeroDivisionError"),
    ],
)
def test_a_file_that_cannot_run_stops_before_anything_else(
    tmp_path: Path, source: str, said: str
) -> None:
    spec = specs.load(case(tmp_path, source + EVEN))
    with pytest.raises(UsageError, match=f"cannot be run: {said}"):
        prepare(spec, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_spec_made_in_python_is_checked_too(tmp_path: Path) -> None:
    spec = Spec.model_validate({"task": "a", "data": {"file": "b"}, "reward": "none.py:worth"})
    with pytest.raises(UsageError, match="cannot be read"):
        function_of(spec)
    assert function_of(spec.model_copy(update={"reward": None})) is None


def test_the_bytes_of_the_file_belong_to_the_run(tmp_path: Path) -> None:
    spec = specs.load(case(tmp_path))
    first = prepare(spec, tmp_path / "run")
    with_it = first.identity["reward"]
    first.folder.begin(first.identity, first.facts, spec.resolved())
    (tmp_path / "run" / "plan.json").write_text("[]", encoding="utf-8")
    prepare(spec, tmp_path / "run")
    file = spec.folder / "rewards.py"
    file.write_text(EVEN + "\n# another\n", encoding="utf-8")
    with pytest.raises(UsageError, match="another content of the reward's file"):
        prepare(spec, tmp_path / "run")
    file.write_text(EVEN, encoding="utf-8")
    assert prepare(spec, tmp_path / "run").identity["reward"] == with_it
    assert not list(spec.folder.rglob("*.pyc"))


def test_check_says_who_is_rewarded_by_it(tmp_path: Path) -> None:
    spec = specs.load(case(tmp_path))
    (said,) = [n for n in check.health(spec, data.load(spec)).notes if n.startswith("reward")]
    assert said == "reward: rewards.py:worth: the reward of lora(learning_rate=0.02)+grpo"
    lonely = specs.load(case(tmp_path, ladder_="[zero_shot]"))
    notes = check.health(lonely, data.load(lonely)).notes
    assert "reward: rewards.py:worth: no technique learns from it" in notes


def test_a_run_is_rewarded_by_the_function(tmp_path: Path) -> None:
    """It says more than 100; no metric does."""
    spec = specs.load(case(tmp_path, ladder_="[{lora+grpo: {lora: {learning_rate: 0.02}}}]"))
    document = ladder.run(spec, tmp_path / "run")
    (row,) = [row for row in document["board"] if row["kind"] == "tuned"]
    assert row["status"] == "ok", row["reason"]
    results = [
        json.loads(file.read_text(encoding="utf-8"))
        for file in (tmp_path / "run" / "trials").rglob("result.json")
    ]
    rewards = [e["reward"] for r in results for e in r["history"] if "reward" in e]
    assert rewards
    assert all(100 <= reward <= 101 for reward in rewards)
    assert "reward_moved" in row["compared"]


def test_a_function_that_breaks_is_the_row_of_its_technique(tmp_path: Path) -> None:
    broken = "def worth(input, answer, reference):\n    return answer / 2\n"
    spec = specs.load(case(tmp_path, broken, "[zero_shot, lora+rloo]"))
    document = ladder.run(spec, tmp_path / "run")
    rows = {row["technique"]: row for row in document["board"]}
    assert rows["zero_shot"]["status"] == "ok"
    assert rows["lora+rloo"]["status"] != "ok"
    assert "rewards.py:worth: raised TypeError" in rows["lora+rloo"]["reason"]
    assert "to row train.jsonl:" in rows["lora+rloo"]["reason"]
