"""Fills the table of techniques: runs the tests that record a figure, and keeps what they recorded.

    python bench/techniques.py

The contract tests, and every test that asks for the `gate` fixture (`tests/gates.py`), run in one
process; a figure of a test that failed does not count. Every prompt, delta and objective needs a
figure in every column, or a reason why it has none. The raw results go to
`bench/results/<date>-techniques.jsonl`, and `bench/table.py` writes `docs/techniques.md` from them.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import kept
import machine
import technique_files
from savile.registry import PartInfo
from technique_table import COLUMNS, CONTRACTS

ROOT = Path(__file__).resolve().parents[1]
ASKS = "gate: Gate"
"""What stands in a test file that records figures."""


class Collector:
    """A pytest plugin that keeps figures and counts contract tests."""

    def __init__(self, names: set[str]) -> None:
        self.names = names
        self.figures: dict[tuple[str, str], dict[str, float]] = {}
        self.tests: Counter[tuple[str, str]] = Counter()
        self.failed: list[str] = []

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Leave out tests that record nothing."""
        kept = [item for item in items if self._wanted(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a test recorded that passed."""
        if report.failed:
            self.failed.append(report.nodeid)
        if report.when != "call" or not report.passed:
            return
        for name in self._techniques(report.nodeid):
            self.tests[name, CONTRACTS] += 1
        recorded: set[tuple[str, str]] = set()
        for kind, figure in report.user_properties:
            place = (figure["technique"], kind.removeprefix("gate:"))
            recorded.add(place)
            values = self.figures.setdefault(place, {})
            about, value = figure["about"], figure["value"]
            values[about] = max(value, values.get(about, value))
        self.tests.update(recorded)

    def _wanted(self, item: pytest.Item) -> bool:
        asks = "gate" in getattr(item, "fixturenames", ())
        return asks or bool(self._techniques(item.nodeid))

    def _techniques(self, test: str) -> set[str]:
        """Return the techniques that a contract test is about."""
        inside = test.startswith("tests/contracts/")
        return self.names & set(re.split(r"[\[\]-]", test)) if inside else set()


def main() -> None:
    """Run the tests and keep the figures; exit with 1 when a test fails or a figure is missing."""
    os.chdir(ROOT)
    parts = technique_files.techniques()
    about = machine.line()
    collector = Collector({part.name for part in parts})
    pytest.main(["-q", "--no-header", *files()], plugins=[collector])
    if collector.failed:
        sys.exit(f"{len(collector.failed)} failed, nothing is kept: {', '.join(collector.failed)}")
    cells = [cell(part, column, collector) for part in parts for column in COLUMNS]
    missing = [one for one in cells if not one["tests"] and not one["reason"]]
    if missing:
        named = ", ".join(f"{one['technique']} ({one['column']})" for one in missing)
        sys.exit(f"no test records a figure for: {named}")
    known = technique_files.facts()
    rows = [
        {"kind": "technique", "technique": part.name, "axis": part.axis, **known[part.name]}
        for part in parts
    ]
    kept.write("techniques", [about, *rows, *cells])
    print(f"{len(parts)} techniques; now python bench/table.py")


def files() -> list[str]:
    """Return the contract tests and every file whose tests record figures."""
    every = sorted((ROOT / "tests").rglob("test_*.py"))
    return [
        path.relative_to(ROOT).as_posix()
        for path in every
        if path.parent.name == "contracts" or ASKS in path.read_text(encoding="utf-8")
    ]


def cell(part: PartInfo, column: str, collector: Collector) -> dict[str, Any]:
    """Return what is known of a technique in a column."""
    tests = collector.tests[part.name, column]
    return {
        "kind": "gate",
        "technique": part.name,
        "column": column,
        "tests": tests,
        "values": collector.figures.get((part.name, column), {}),
        "reason": "" if tests else reason(part, column),
    }


def reason(part: PartInfo, column: str) -> str:
    """Return why a column does not apply to a technique, empty when it does."""
    if part.axis == "prompts":
        return {"parity": "has no formula", "families": "trains nothing"}.get(column, "")
    if column == "export" and "policy" in part.facts.get("gives", ()):
        return "that of its delta"
    return ""


if __name__ == "__main__":
    main()
