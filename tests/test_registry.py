"""Parts are found by their files, and described without being imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from savile import registry

ROOT = Path(registry.__file__).parent


@pytest.mark.parametrize("axis", registry.AXES)
def test_every_file_of_an_axis_is_a_part(axis: registry.Axis) -> None:
    files = {p.stem for p in (ROOT / axis).glob("*.py")} - {"__init__"}
    files = {name for name in files if name != "base" and not name.startswith("base_")}
    assert set(registry.parts(axis)) == files
    assert list(registry.parts(axis)) == sorted(files)


@pytest.mark.parametrize("axis", registry.AXES)
def test_the_description_says_what_and_whence(axis: registry.Axis) -> None:
    for name, part in registry.parts(axis).items():
        assert part.name == name
        assert part.summary.endswith("."), name
        assert "Cost:" in part.doc, name
        assert "Cost:" not in part.source, name
        assert registry.load(axis, name).__name__ == part.class_name


def test_names_are_unique_over_the_axes() -> None:
    names = [name for axis in registry.AXES[:3] for name in registry.parts(axis)]
    assert len(names) == len(set(names))
    for axis in registry.AXES[:3]:
        for name, part in registry.parts(axis).items():
            assert registry.find(name) is part
    assert registry.find("never_seen") is None
    assert registry.find("accuracy") is None  # a metric is no part of a technique


def test_describing_imports_no_engine() -> None:
    code = (
        "import sys; from savile import registry;"
        "[registry.parts(a) for a in registry.AXES];"
        "print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_file_without_a_part_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "registry.py"))
    (tmp_path / "deltas").mkdir()
    (tmp_path / "deltas" / "notes.py").write_text('"""Notes."""\n\nclass Plain:\n    x: int = 1\n')
    (tmp_path / "deltas" / "new.py").write_text(
        '"""A new one: short.\n\nSource: Somebody 2026,\npage 1.\n\nCost: nothing.\n"""\n\n'
        "@final\n@dataclass(frozen=True, kw_only=True)\nclass New(Delta):\n"
        '    needs: ClassVar[tuple[str, ...]] = ("pairs",)\n\n'
        '    size: int\n    """How\n    large."""\n    rate: float | None = None\n'
    )
    assert registry.describe("deltas", "notes") is None
    new = registry.describe("deltas", "new")
    assert new is not None
    assert (new.summary, new.source, new.needs) == (
        "A new one: short.",
        "Somebody 2026, page 1",
        ("pairs",),
    )
    size, rate = new.settings
    assert (size.name, size.annotation, size.doc) == ("size", "int", "How large.")
    assert size.default is registry.MISSING
    assert rate.default is None
