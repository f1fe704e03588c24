"""Every bad input of the prompt side ends in a sentence, an exit code and a row of the document."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bad_inputs.prompting import BEGIN, CASES, DOCUMENT, END, KEY, message, outcome

LEAST = 25
TABLE = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_said(name: str, tmp_path: Path) -> None:
    bad = CASES[name]
    found = outcome(bad, tmp_path)
    assert found.code == bad.code, found.text
    for words in bad.said:
        assert words in found.text
    assert "Traceback" not in found.text
    assert KEY not in found.text
    said = message(bad, found.text.replace(f"{tmp_path}/", "")).replace("|", "\\|")
    assert f"| {bad.what} | {found.code} | {said} |" in TABLE


def test_the_document_counts_them() -> None:
    lines = [line for line in TABLE.splitlines() if line.startswith("| ") and "---" not in line]
    assert len(lines) - 1 == len(CASES) >= LEAST
    assert len({bad.what for bad in CASES.values()}) == len(CASES)
