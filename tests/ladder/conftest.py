"""A small case on a tiny base, for the ladder's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from savile.ladder import identity
from tests import small_case


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a random tiny base."""
    return small_case.write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(autouse=True, scope="session")
def one_code_version() -> Iterator[None]:
    """Keep the identity of runs the same while somebody edits the source beside the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity, "code_version", lambda: "tests")
        yield


@pytest.fixture
def task(tmp_path: Path, tiny_base: Path) -> Path:
    """Return the task.yaml of the small case."""
    return small_case.write_case(tmp_path / "case", tiny_base)
