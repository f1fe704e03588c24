from pathlib import Path

from savile import spec as specs
from savile.errors import UsageError
from savile.ladder.identity import (
    QUANTIZES,
    Difference,
    code_version,
    first_difference,
    refuse,
    versions,
)
from savile.ladder.prepare import prepare
from tests import small_case


def test_the_first_differing_leaf_is_named() -> None:
    before = {"spec": {"seed": 0, "budget": {"search": 3}}, "base": "abc"}
    now = {"spec": {"seed": 0, "budget": {"search": 5}}, "base": "abc"}
    assert first_difference(before, before) is None
    assert first_difference(before, now) == Difference(key="spec.budget.search", before=3, now=5)


def test_a_key_that_came_or_went_is_a_difference() -> None:
    found = first_difference({"data": {"a": "1"}}, {"data": {"a": "1", "b": "2"}})
    assert found == Difference(key="data.b", before=None, now="2")


def test_the_error_says_both_values() -> None:
    error = refuse(Path("run"), Difference(key="spec.seed", before=0, now=1))
    assert isinstance(error, UsageError)
    assert "run: holds another run: `spec.seed` differs; found 1; expected 0" in str(error)


def test_the_code_version_follows_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    first = code_version(tmp_path)
    assert code_version(tmp_path) == first
    (tmp_path / "a.py").write_text("x = 2\n")
    second = code_version(tmp_path)
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert len({first, second, code_version(tmp_path)}) == 3


def test_versions_name_the_libraries_that_change_numbers() -> None:
    assert {"python", "torch", "transformers", "numpy"} <= set(versions())
    assert set(versions(QUANTIZES)) == {*versions(), "torchao"}


def test_a_quantized_run_is_another_with_another_torchao(tmp_path: Path) -> None:
    task = small_case.write_case(tmp_path, small_case.write_base(tmp_path / "base"))
    for overrides, quantizes in (([], False), (["compute.quantization=int8"], True)):
        prepared = prepare(specs.load(task, overrides), tmp_path / "run")
        assert ("torchao" in prepared.identity["versions"]) is quantizes


def test_what_is_only_shown_does_not_make_another_run(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    first = code_version(tmp_path)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "html.py").write_text("x = 1\n")
    assert code_version(tmp_path) == first


def test_a_changed_version_is_told_in_words() -> None:
    error = refuse(Path("run"), Difference(key="code", before="0f", now="1e"))
    assert str(error) == (
        "run: holds a run that was begun by another version of savile (`code` differs). "
        "Give a new folder with --out, or --fork for one beside it"
    )
