"""Imports at the process's edge."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from savile.cli.importing import importing


@pytest.fixture
def small_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "a_small_module.py").write_text("rows = [[n] for n in range(1000)]\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = gc.get_freeze_count()
    yield "a_small_module"
    sys.modules.pop("a_small_module", None)
    if not before:
        gc.unfreeze()


def test_what_is_imported_is_not_walked_through_again(small_module: str) -> None:
    before = gc.get_freeze_count()
    with importing():
        assert not gc.isenabled()
        module = __import__(small_module)
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + 1000
    assert not any(one is module.rows for one in gc.get_objects())


def test_nothing_new_freezes_nothing() -> None:
    before = gc.get_freeze_count()
    with importing():
        import json  # noqa: F401
    assert gc.get_freeze_count() == before


def test_the_collector_works_again_after_an_error() -> None:
    with pytest.raises(ModuleNotFoundError), importing():
        __import__("no_such_module_here")
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
