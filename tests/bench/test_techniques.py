"""The table of techniques has a figure, or a reason, for everything that is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import table, technique_files, technique_table


@pytest.fixture(scope="module")
def newest() -> list[table.Record]:
    """The raw results that `docs/techniques.md` is made of."""
    return table.newest(table.BENCH / "results")["techniques"]


@pytest.mark.parametrize("part", technique_files.techniques(), ids=lambda part: part.name)
def test_every_technique_has_every_figure_or_a_reason(
    part: technique_files.PartInfo, newest: list[table.Record]
) -> None:
    cells = {r["column"]: r for r in newest if r["kind"] == "gate" and r["technique"] == part.name}
    assert cells, f"{part.name} is new: run python bench/techniques.py and python bench/table.py"
    assert cells.keys() == technique_table.COLUMNS.keys()
    for cell in cells.values():
        assert bool(cell["tests"]) is not bool(cell["reason"])
        counted = cell["column"] == technique_table.CONTRACTS
        assert counted or bool(cell["tests"]) is bool(cell["values"])


def test_errors_against_one_reference_stand_side_by_side() -> None:
    values = {"TRL, loss": 1.2e-7, "TRL, gradient": 3e-6, "the formula, loss": 0.0, "answers": 0.0}
    assert technique_table.compared(values) == (
        "TRL: gradient 3e-06, loss 1e-07; same answers; the formula: same loss"
    )


def test_what_was_learned_is_shown_by_family() -> None:
    left = {"qwen2": 0.02, "llama": 0.01, "gpt_neox": 0.4}
    assert technique_table.learned(left) == "0.01, 0.02, 0.4"
    gained = {f"{family}{technique_table.GAINED}": value for family, value in left.items()}
    assert technique_table.learned(gained) == "reward +0.01, +0.02, +0.40"


def test_a_column_that_does_not_apply_says_why() -> None:
    cell = {"column": "parity", "tests": 0, "values": {}, "reason": "has no formula"}
    assert technique_table.show(cell) == "does not apply: has no formula"


CODE = '''"""A header
of two lines."""

x = 1  # said


def f() -> str:
    """Say."""
    # nothing
    return """a
b"""
'''


def test_lines_of_code_are_counted_without_prose() -> None:
    assert technique_files.code_lines(CODE) == 4


def test_a_file_names_a_technique_by_module_class_or_text(tmp_path: Path) -> None:
    part = next(part for part in technique_files.techniques() if part.name == "lora")
    for text, wanted in (
        ("from savile.deltas.lora import LoRA", True),
        ("x: list[LoRA] = []", True),
        ("x = 'few_shot+lora(r=4)'", True),
        ('"""lora"""', False),
        ("# lora\nx = 'lora-like'", False),
        ("from savile.deltas.lowrank import LORAS", False),
    ):
        path = tmp_path / "own.py"
        path.write_text(text, encoding="utf-8")
        assert technique_files.named(part, technique_files.naming(path)) is wanted, text
