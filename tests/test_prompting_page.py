"""Every snippet of docs/prompting.md is a spec that can run, and no prompt technique is missing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from savile import data, registry
from savile import spec as specs
from savile.ladder import estimate
from savile.ladder.encoders import notes
from savile.ladder.task import check_prompts

PAGE = Path(__file__).resolve().parents[1] / "docs" / "prompting.md"
FENCE = re.compile(r"^```yaml( base)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FOUND = FENCE.findall(PAGE.read_text(encoding="utf-8"))
(BASE,) = (text for base, text in FOUND if base)
SNIPPETS = [text for base, text in FOUND if not base]
LABELS = ("billing_eu", "shipping_eu")


def tree(text: str) -> dict[str, Any]:
    found: Mapping[str, Any] = YAML(typ="safe", pure=True).load(text)
    return dict(found)


def write_rows(folder: Path) -> None:
    """Write rows that every snippet can read: text, answer, steps."""
    for split, n in (("train", 64), ("dev", 32), ("test", 32)):
        rows = [
            {"text": f"{split} {i} asks of {i * 7}", "label": LABELS[i % 2], "steps": f"It is {i}."}
            for i in range(n)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_is_a_spec_that_can_run(number: int, tmp_path: Path) -> None:
    write_rows(tmp_path)
    (tmp_path / "task.yaml").write_text(
        json.dumps({**tree(BASE), **tree(SNIPPETS[number])}), encoding="utf-8"
    )
    spec = specs.load(tmp_path / "task.yaml")
    dataset = data.load(spec)
    candidates = spec.candidates(dataset.gives, len(dataset.train))
    check_prompts(spec, dataset, candidates)
    notes(candidates, spec.folder)
    estimate.notes(spec, dataset, {})
    trains_on_an_api = [c.name for c in candidates if c.reason and spec.bases]
    assert [c.name for c in candidates if c.reason] == trains_on_an_api


def test_every_prompt_technique_has_a_snippet() -> None:
    told = "\n".join(SNIPPETS)
    missing = [n for n in registry.parts("prompts") if not re.search(rf"\b{n}\b", told)]
    assert missing == []
