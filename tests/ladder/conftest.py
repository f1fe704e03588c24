"""A small case on a tiny base, for the ladder's tests."""

from pathlib import Path

import pytest

from tests import small_case


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a random tiny base."""
    return small_case.write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def task(tmp_path: Path, tiny_base: Path) -> Path:
    """Return the task.yaml of the small case."""
    return small_case.write_case(tmp_path / "case", tiny_base)
