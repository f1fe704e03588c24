"""A reward function is checked by reading its file: nothing of it runs."""

from pathlib import Path

import pytest

from savile import spec as specs
from savile.errors import UsageError
from savile.spec.model import Spec

GOOD = "def worth(input, answer, reference):\n    return 1.0\n"


def load(folder: Path, source: str | None, written: str = "rewards.py:worth") -> Spec:
    if source is not None:
        (folder / "rewards.py").write_text(source, encoding="utf-8")
    task = folder / "task.yaml"
    task.write_text(f"task: a\ndata: {{file: b.jsonl}}\nreward: {written}\n", encoding="utf-8")
    return specs.load(task)


@pytest.mark.parametrize(
    "source",
    [
        GOOD,
        "def worth(*texts): return 0\n",
        "def worth(input, answer, reference, scale=2.0): return scale\n",
        "def worth(input, /, answer, reference='', *, log=None): return 0\n",
        "raise SystemExit('this file ran')\n" + GOOD,
        "import a_module_that_is_not_here\n" + GOOD,
    ],
)
def test_a_function_of_three_texts_is_accepted_and_not_run(tmp_path: Path, source: str) -> None:
    assert load(tmp_path, source).reward == "rewards.py:worth"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, "the file of 'reward' cannot be read: No such file or directory"),
        ("def worth(:\n", "rewards.py:1 is not valid Python: "),
        ("a\0b", "rewards.py is not valid Python: "),
        ("x = 1\n", "rewards.py defines no function 'worth' at its top level"),
        (GOOD.replace("worth", "worths"), "top level; did you mean 'worths'?"),
        ("if True:\n    " + GOOD.replace("\n", "\n    "), "no function 'worth' at its top level"),
        ("def worth(answer): return 0\n", "'worth' does not take three arguments"),
        ("def worth(a, b, c, d): return 0\n", "def worth(input, answer, reference)"),
        ("def worth(a, b, c, *, d): return 0\n", "'worth' does not take three arguments"),
    ],
)
def test_what_is_wrong_stands_at_its_line(tmp_path: Path, source: str | None, said: str) -> None:
    with pytest.raises(UsageError) as found:
        load(tmp_path, source)
    (problem,) = found.value.problems
    assert problem.where == f"{tmp_path / 'task.yaml'}:3:9"
    assert said in str(problem)


@pytest.mark.parametrize("written", ["rewards.py", "rewards:worth", "rewards.py:1st", "5"])
def test_the_form_is_said(tmp_path: Path, written: str) -> None:
    with pytest.raises(UsageError, match="'reward'"):
        load(tmp_path, GOOD, written)


def test_other_problems_of_the_spec_are_told_beside_it(tmp_path: Path) -> None:
    task = tmp_path / "task.yaml"
    task.write_text("task: a\ndata: {file: b.jsonl}\nreward: rewards.py:worth\nx: 1\n")
    with pytest.raises(UsageError) as found:
        specs.load(task)
    assert "unknown key 'x'" in str(found.value)
