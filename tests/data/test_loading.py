"""Loading: every row has a fate, the test is sealed, leaks and labels are settled as asked."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from savile.data.check import health
from savile.data.dataset import Dataset
from savile.errors import DataError
from savile.spec import load as load_spec
from tests.data.make import LABELS, dataset, numbered, word_tokenizer, write_rows

SPLITS = "train: train.jsonl, dev: dev.jsonl, test: test.jsonl"


def three(folder: Path, n: int = 40) -> None:
    for number, split in enumerate(("train", "dev", "test")):
        write_rows(folder / f"{split}.jsonl", numbered(n, start=1000 * number))


def inputs(found: Dataset) -> tuple[set[str], set[str], set[str]]:
    test = found.test.open("a test")
    return tuple({e.input for e in part} for part in (found.train, found.dev, test))  # type: ignore[return-value]


def conserved(found: Dataset) -> bool:
    total = found.fates[-1]
    used = sum(total[f"used_{split}"] for split in ("train", "dev", "test"))
    return bool(total["n_in"] == used + sum(total["quarantined"].values()))


def test_three_files_are_used_whole(tmp_path: Path) -> None:
    three(tmp_path)
    found = dataset(tmp_path, SPLITS, extra=LABELS)
    assert (len(found.train), len(found.dev), len(found.test)) == (40, 40, 40)
    assert found.labels == ("no", "yes")
    assert found.gives == {"pairs", "labels", "reward"}
    assert conserved(found)
    assert set(found.hashes) == {"train.jsonl", "dev.jsonl", "test.jsonl"}


def test_ids_do_not_depend_on_order_and_are_unique(tmp_path: Path) -> None:
    rows = numbered(100) + numbered(5)
    write_rows(tmp_path / "rows.jsonl", rows)
    first = dataset(tmp_path, "file: rows.jsonl")
    random.Random(1).shuffle(rows)
    write_rows(tmp_path / "rows.jsonl", rows)
    second = dataset(tmp_path, "file: rows.jsonl")
    assert inputs(first) == inputs(second)
    for a, b in ((first.train, second.train), (first.dev, second.dev)):
        assert sorted(e.id for e in a) == sorted(e.id for e in b)
        assert len({e.id for e in a}) == len(a)
        assert all(len(e.id) == 16 for e in a)


def test_dev_and_test_are_cut_from_train_and_said(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", numbered(400))
    found = dataset(tmp_path, "train: train.jsonl")
    train, dev, test = inputs(found)
    assert len(train) + len(dev) + len(test) == len(train | dev | test)
    assert len(train | dev | test) == 400
    assert 30 < len(dev) < 90
    assert 50 < len(test) < 110
    assert any(note.startswith("dev:") and "hash" in note for note in found.notes)


def test_a_test_file_is_used_whole_and_dev_is_cut_from_train(tmp_path: Path) -> None:
    three(tmp_path, 100)
    found = dataset(tmp_path, "train: train.jsonl, test: test.jsonl")
    assert len(found.test) == 100
    assert len(found.train) + len(found.dev) == 100


def test_only_a_test_file_gives_no_pairs(tmp_path: Path) -> None:
    three(tmp_path)
    found = dataset(tmp_path, "test: test.jsonl", extra=LABELS)
    assert (found.train, found.dev, found.gives) == ((), (), {"labels"})


def test_columns_that_may_group_rows_are_pointed_at(tmp_path: Path) -> None:
    rows = [{**row, "customer_id": f"c{i // 5}"} for i, row in enumerate(numbered(100))]
    write_rows(tmp_path / "rows.jsonl", rows)
    found = dataset(tmp_path, "file: rows.jsonl")
    assert any("data.group_by: customer_id" in note for note in found.notes)


def test_some_worked_steps_are_not_enough(tmp_path: Path) -> None:
    rows = [{**row, "rationale": "so" if i else None} for i, row in enumerate(numbered(100))]
    write_rows(tmp_path / "rows.jsonl", rows)
    found = dataset(tmp_path, "file: rows.jsonl")
    assert len(found.train) + len(found.dev) + len(found.test) == 100
    missing = [e for e in found.train if e.rationale is None]
    assert ("rationales" in found.gives) == (not missing)
    assert any("worked steps in" in w for w in found.warnings) == bool(missing)


@pytest.mark.parametrize(
    ("steps", "said"),
    [(40, None), (7, "7 of 40 dev rows: .* counts these"), (0, "0 of 40 dev rows: .* no dev loss")],
)
def test_dev_rows_without_worked_steps_are_said(
    tmp_path: Path, steps: int, said: str | None
) -> None:
    for split, n, start in (("train", 40, 0), ("dev", steps, 1000), ("test", 0, 2000)):
        rows = numbered(40, start=start)
        write_rows(
            tmp_path / f"{split}.jsonl",
            [{**row, "rationale": "so" if at < n else None} for at, row in enumerate(rows)],
        )
    found = dataset(tmp_path, SPLITS, extra=LABELS)
    assert "rationales" in found.gives
    told = [w for w in found.warnings if "worked steps" in w]
    assert len(told) == (said is not None)
    assert all(re.search(str(said), warning) for warning in told)


def test_groups_stay_together(tmp_path: Path) -> None:
    rows = [{**row, "customer": f"c{i // 10}"} for i, row in enumerate(numbered(300))]
    write_rows(tmp_path / "rows.jsonl", rows)
    found = dataset(tmp_path, "file: rows.jsonl, group_by: customer")
    customer = {row["text"]: row["customer"] for row in rows}
    groups = [{customer[text] for text in part} for part in inputs(found)]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 30


def test_leaks_are_dropped_from_train_and_counted(tmp_path: Path) -> None:
    three(tmp_path)
    planted = [{**row, "text": row["text"].upper() + " ?"} for row in numbered(3, start=2000)]
    write_rows(tmp_path / "train.jsonl", numbered(40) + planted + numbered(2, start=1000))
    found = dataset(tmp_path, SPLITS, "data.leak=drop_train", extra=LABELS)
    assert (len(found.train), len(found.dev), len(found.test)) == (40, 40, 40)
    reasons = {"leak: input is also in dev": 2, "leak: input is also in test": 3}
    assert found.fates[-1]["quarantined"] == reasons
    assert found.profile["leaks"]["rows"] == 5
    assert conserved(found)
    kept = dataset(tmp_path, SPLITS, "data.leak=allow", extra=LABELS)
    assert len(kept.train) == 45
    with pytest.raises(DataError, match="5 rows are in more than one split"):
        dataset(tmp_path, SPLITS, extra=LABELS)


def test_near_duplicates_only_warn(tmp_path: Path) -> None:
    three(tmp_path)
    words = " ".join(f"w{i}" for i in range(30))
    write_rows(tmp_path / "train.jsonl", [*numbered(40), {"text": words, "label": "no"}])
    near = {"text": words + " more", "label": "no"}
    write_rows(tmp_path / "test.jsonl", [*numbered(40, start=2000), near])
    found = dataset(tmp_path, SPLITS, extra=LABELS)
    assert found.profile["near_duplicates"]["rows"] == 1
    assert any("nearly repeat a row of train or dev, more" in said for said in found.warnings)


def test_duplicates_in_train_are_said_or_dropped(tmp_path: Path) -> None:
    three(tmp_path)
    write_rows(tmp_path / "train.jsonl", numbered(40) + numbered(10))
    found = dataset(tmp_path, SPLITS, extra=LABELS)
    assert len(found.train) == 50
    assert any("10 of 50 train rows (20.0%) repeat" in warning for warning in found.warnings)
    found = dataset(tmp_path, SPLITS, "data.dedup=true", extra=LABELS)
    assert len(found.train) == 40
    assert found.fates[-1]["quarantined"] == {"duplicate in train": 10}


def test_conflicting_labels_bound_the_accuracy(tmp_path: Path) -> None:
    three(tmp_path)
    clash = [{"text": "same thing", "label": label} for label in ("no", "yes", "yes")]
    write_rows(tmp_path / "test.jsonl", numbered(37, start=2000) + clash)
    found = dataset(tmp_path, SPLITS, extra=LABELS)
    assert found.profile["conflicts"]["ceiling"] == pytest.approx(39 / 40)
    assert len(found.test) == 40
    assert any("97.5%" in warning for warning in found.warnings)


def test_free_text_answers_to_one_input_become_references(tmp_path: Path) -> None:
    three(tmp_path)
    rows = [{"text": "name[X]", "label": f"answer {i}"} for i in (1, 2, 2, 3)]
    write_rows(tmp_path / "test.jsonl", numbered(30, start=2000) + rows)
    write_rows(tmp_path / "train.jsonl", [{**row, "text": "name[Y]"} for row in rows])
    found = dataset(tmp_path, SPLITS)
    merged = found.test.open("a test")[-1]
    assert merged.accepted == ("answer 1", "answer 2", "answer 3")
    assert (len(found.test), len(found.train)) == (31, 4)
    assert found.fates[-1]["used_test"] == 34
    assert found.fates[-1]["examples"]["test"] == 31
    assert conserved(found)


def test_labels_are_normalized_when_asked(tmp_path: Path) -> None:
    three(tmp_path)
    write_rows(tmp_path / "train.jsonl", [*numbered(40), {"text": "x y", "label": " YES"}])
    for labels in ("[no, yes]", "auto"):
        extra = f"prompt: {{labels: {labels}}}\n"
        found = dataset(tmp_path, SPLITS, "data.normalize=true", extra=extra)
        assert found.labels == ("no", "yes")
        assert found.train[-1].output == "yes"


def test_several_accepted_labels_are_all_checked(tmp_path: Path) -> None:
    three(tmp_path)
    rows = [*numbered(40), {"text": "x y", "label": ["yes", "no"]}]
    write_rows(tmp_path / "train.jsonl", rows)
    assert dataset(tmp_path, SPLITS, extra=LABELS).train[-1].accepted == ("yes", "no")
    rows[-1] = {"text": "x y", "label": ["yes", "nope"]}
    write_rows(tmp_path / "train.jsonl", rows)
    with pytest.raises(DataError, match="'nope' is not in the label set"):
        dataset(tmp_path, SPLITS, extra=LABELS)


def test_a_label_without_train_rows_is_said(tmp_path: Path) -> None:
    three(tmp_path)
    found = dataset(tmp_path, SPLITS, extra="prompt: {labels: [no, yes, maybe]}\n")
    assert any("1 of 3 labels have no train row: 'maybe'" in w for w in found.warnings)


def test_auto_knows_a_label_that_only_a_carved_test_row_has(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", numbered(200))
    carved = sorted(inputs(dataset(tmp_path, "file: rows.jsonl"))[2])[0]
    rare = [row | {"label": "rare"} if row["text"] == carved else row for row in numbered(200)]
    write_rows(tmp_path / "rows.jsonl", rare)
    found = dataset(tmp_path, "file: rows.jsonl", extra="prompt: {labels: auto}\n")
    assert found.labels == ("no", "rare", "yes")
    assert any("1 of 3 labels have no train row: 'rare'" in w for w in found.warnings)


def test_prefix_labels_and_odd_text_are_accepted(tmp_path: Path) -> None:
    odd = ["<|im_end|> </s>", "{text} {{ x }}", "\u202eabc", "\u200bx", "a\r\nb", "e\u0301"]
    three(tmp_path)
    rows = [{"text": text, "label": "no"} for text in odd] + [{"text": "q", "label": "not sure"}]
    write_rows(tmp_path / "train.jsonl", rows)
    write_rows(tmp_path / "test.jsonl", [{"text": "z", "label": "no"}])
    write_rows(tmp_path / "dev.jsonl", [{"text": "y", "label": "no"}])
    found = dataset(tmp_path, SPLITS, extra="prompt: {labels: auto}\n")
    assert [e.input for e in found.train[:6]] == odd
    assert found.profile["rows_with_special_marks"] == 1
    assert any("only 1 test rows" in warning for warning in found.warnings)


def test_few_empty_rows_are_set_aside_and_listed(tmp_path: Path) -> None:
    three(tmp_path)
    write_rows(tmp_path / "train.jsonl", [*numbered(200), {"text": "a", "label": " "}])
    found = dataset(tmp_path, SPLITS, extra=LABELS)
    assert len(found.train) == 200
    assert [(r.file, r.line, r.reason) for r in found.rejected] == [
        ("train.jsonl", 201, "empty output")
    ]
    assert conserved(found)


def test_mixed_types_are_cast_when_asked(tmp_path: Path) -> None:
    three(tmp_path)
    rows = [{"text": f"t{i}", "label": 1 if i % 2 else "01"} for i in range(9)]
    write_rows(tmp_path / "train.jsonl", rows)
    found = dataset(tmp_path, "train: train.jsonl, cast: str", extra="prompt: {labels: auto}\n")
    assert found.labels == ("01", "1")


@pytest.mark.parametrize(("split", "place"), [("dev", 1), ("test", 2)])
def test_dev_and_test_rows_are_capped_by_hash(tmp_path: Path, split: str, place: int) -> None:
    three(tmp_path)
    whole = dataset(tmp_path, SPLITS, extra=LABELS)
    found = dataset(tmp_path, SPLITS, f"budget.{split}_rows=10", extra=LABELS)
    again = dataset(tmp_path, SPLITS, f"budget.{split}_rows=12", extra=LABELS)
    assert len(inputs(found)[place]) == 10
    assert inputs(found)[place] < inputs(again)[place]
    left_out = len(inputs(whole)[place]) - 10
    assert {f"beyond budget.{split}_rows": left_out} in [
        fate["quarantined"] for fate in found.fates
    ]
    assert conserved(found)


def test_the_test_is_sealed(tmp_path: Path) -> None:
    three(tmp_path)
    found = dataset(tmp_path, SPLITS, extra=LABELS)
    text = repr(found.test) + repr(vars(type(found.test))) + json.dumps(found.profile)
    assert "a2001" not in text
    assert not hasattr(found.test, "__iter__")
    assert not hasattr(found.test, "__dict__")
    assert found.test.openings == 0
    assert len(found.test.open("the end")) == 40
    assert (found.test.openings, found.test.reasons) == (1, ["the end"])


def test_a_changed_row_changes_the_hash_of_the_test(tmp_path: Path) -> None:
    three(tmp_path)
    before = dataset(tmp_path, SPLITS, extra=LABELS).test.ids_hash
    write_rows(tmp_path / "test.jsonl", [*numbered(39, start=2000), {"text": "n", "label": "no"}])
    assert dataset(tmp_path, SPLITS, extra=LABELS).test.ids_hash != before


def test_health_is_told_without_opening_the_test(tmp_path: Path) -> None:
    three(tmp_path)
    found = dataset(tmp_path, SPLITS, extra=LABELS)
    report = health(load_spec(tmp_path / "task.yaml"), found)
    text = "\n".join(report.lines())
    assert found.test.openings == 0
    assert "data: 120 rows = train 40 + dev 40 + test 40" in text
    assert "test labels: 2 (no 20, yes 20)" in text
    assert "would be right in 50.0% of test" in text
    assert "will run: zero_shot" in text
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["schema_version"] == 1
    assert document["profile"]["splits"]["train"]["input_words"]["median"] == 4


def test_rows_that_are_set_aside_are_named_by_check(tmp_path: Path) -> None:
    three(tmp_path)
    empty = [{"text": f"a{i}", "label": " "} for i in range(12)]
    write_rows(tmp_path / "train.jsonl", [*numbered(40), *empty])
    found = dataset(tmp_path, SPLITS, "data.allow_drop=true", extra=LABELS)
    report = health(load_spec(tmp_path / "task.yaml"), found)
    lines = [line for line in report.lines() if line.startswith("set aside: ")]
    assert lines[0] == "set aside: train.jsonl:41: empty output"
    assert lines[10:] == ["set aside: … 2 more rows (all with --json)"]
    assert [row["line"] for row in report.to_dict()["rejected"]] == list(range(41, 53))


def test_tokens_are_counted_where_a_tokenizer_is_at_hand(tmp_path: Path) -> None:
    three(tmp_path)
    found = dataset(tmp_path, SPLITS, "base=nowhere", extra=LABELS)
    spec = load_spec(tmp_path / "task.yaml", ["base=nowhere"])
    assert health(spec, found).tokens is None
    word_tokenizer(tmp_path / "base", context=20)
    tokens = health(load_spec(tmp_path / "task.yaml", ["base=base"]), found).tokens
    assert tokens is not None
    assert (tokens["median"], tokens["context"], tokens["over_context"]) == (21, 20, 120)
