"""Real data of the field, where they are beside the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from savile import data
from savile import spec as task_spec
from savile.errors import DataError

REAL = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
pytestmark = pytest.mark.skipif(
    not REAL.is_dir(), reason="the real data sets are not beside this repository (../shared/data)"
)


def load(folder: Path, train: str, test: str, extra: str = "", *overrides: str) -> data.Dataset:
    path = folder / "task.yaml"
    files = f"{{train: '{REAL / train}', test: '{REAL / test}'}}"
    path.write_text(f"task: real\ndata: {files}\n{extra}", encoding="utf-8")
    return data.load(task_spec.load(path, overrides))


def test_banking77(tmp_path: Path) -> None:
    files = ("banking77/train.csv", "banking77/test.csv")
    labels = "prompt: {labels: auto}\n"
    with pytest.raises(DataError, match="11 rows are in more than one split") as caught:
        load(tmp_path, *files, labels)
    assert "drop_train" in str(caught.value)
    found = load(tmp_path, *files, labels, "data.leak=drop_train")
    assert len(found.labels) == 77
    assert len(found.train) + len(found.dev) == 10_003 - 11
    assert len(found.test) == 3_080
    assert len(found.dev) <= 1000


def test_gsm8k_has_steps(tmp_path: Path) -> None:
    found = load(tmp_path, "gsm8k/train.jsonl", "gsm8k/test.jsonl")
    assert found.gives == {"pairs", "rationales", "reward"}
    assert len(found.test) == 1_319
    assert all("####" not in e.output for e in found.train)


def test_e2e_has_several_references(tmp_path: Path) -> None:
    found = load(tmp_path, "e2e/devset.csv", "e2e/testset_w_refs.csv")
    assert len(found.test) == 630  # the published number of test inputs
    assert found.fates[-1]["used_test"] == 4_693
    assert sum(len(e.references) > 1 for e in found.dev) > 50
