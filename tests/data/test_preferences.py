"""Judged answers: every shape of the field, their splits, and what is set aside."""

import json
from pathlib import Path
from typing import Any

import pytest

from savile import data
from savile import spec as specs
from savile.data import Dataset
from savile.errors import DataError

ASK, GOOD, BAD = "how do i return it", "with pleasure , send it back", "no"
USER = {"role": "user", "content": ASK}
TASK = "task: voice\nprompt: {{instruction: reply}}\ndata: {data}\n"


def turn(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


SHAPES: dict[str, dict[str, Any]] = {
    "trl": {"prompt": ASK, "chosen": GOOD, "rejected": BAD},
    "trl-messages": {"prompt": [USER], "chosen": [turn(GOOD)], "rejected": [turn(BAD)]},
    "trl-implicit": {"chosen": [USER, turn(GOOD)], "rejected": [USER, turn(BAD)]},
    "dialogue": {
        "chosen": f"\n\nHuman: {ASK}\n\nAssistant: {GOOD}",
        "rejected": f"\n\nHuman: {ASK}\n\nAssistant: {BAD}",
    },
    "openai": {
        "input": {"messages": [USER]},
        "preferred_output": [turn(GOOD)],
        "non_preferred_output": [turn(BAD)],
    },
}


def vary(value: Any, number: int) -> Any:
    """Return the row with another question, so that rows differ."""
    return json.loads(json.dumps(value).replace(ASK, f"{ASK} {number}"))


def write(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def load(folder: Path, section: str) -> Dataset:
    task = folder / "task.yaml"
    task.write_text(TASK.format(data=section), encoding="utf-8")
    return data.load(specs.load(task))


def pairs(n: int, start: int = 0) -> list[dict[str, Any]]:
    return [vary(SHAPES["trl"], number) for number in range(start, start + n)]


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_rows_that_are_pairs_train_test_and_prefer(tmp_path: Path, name: str) -> None:
    write(tmp_path / "rows.jsonl", [vary(SHAPES[name], number) for number in range(60)])
    found = load(tmp_path, "{file: rows.jsonl}")
    counts = (len(found.train), len(found.dev), len(found.test))
    judged = (found.preferences, found.dev_preferences, found.test_preferences)
    assert counts == tuple(map(len, judged))
    assert sum(counts) == 60
    assert {"pairs", "preferences", "feedback"} <= found.gives
    assert all((p.chosen, p.rejected) == (GOOD, BAD) for p in found.preferences)
    assert {p.input for p in found.preferences} == {e.input for e in found.train}
    assert all(ASK in p.input for p in found.preferences)
    assert all(e.output == GOOD for e in found.train)


def test_a_file_of_its_own_follows_the_split_of_the_same_question(tmp_path: Path) -> None:
    rows = [{"input": f"{ASK} {n}", "output": GOOD} for n in range(40)]
    write(tmp_path / "train.jsonl", rows[:20])
    write(tmp_path / "test.jsonl", rows[20:])
    write(tmp_path / "prefs.jsonl", pairs(80, start=10))
    found = load(tmp_path, "{train: train.jsonl, test: test.jsonl, preferences: prefs.jsonl}")
    asked = {p.input for p in (*found.preferences, *found.dev_preferences)}
    sealed = {f"{ASK} {n}" for n in range(20, 40)}
    assert not asked & sealed
    assert sealed <= {p.input for p in found.test_preferences}
    judged = (found.preferences, found.dev_preferences, found.test_preferences)
    assert sum(map(len, judged)) == 80
    assert all(judged)
    assert found.fates[-1]["used_preferences"] == 80
    assert "preferences" in found.gives


def test_single_answers_with_a_label_are_feedback_and_no_pairs(tmp_path: Path) -> None:
    rows = [{"input": f"{ASK} {n}", "output": GOOD} for n in range(40)]
    write(tmp_path / "rows.jsonl", rows)
    judged = [
        {"prompt": f"may i {n}", "completion": f"so {n}", "label": n % 3 == 0} for n in range(60)
    ]
    write(tmp_path / "thumbs.jsonl", judged)
    found = load(tmp_path, "{file: rows.jsonl, preferences: thumbs.jsonl}")
    assert "feedback" in found.gives
    assert "preferences" not in found.gives
    for p in found.preferences:
        number = int(p.input.split()[-1])
        assert (p.chosen is not None) is (number % 3 == 0)
        assert (p.chosen or p.rejected) == f"so {number}"
        assert p.chosen is None or p.rejected is None


def test_equal_answers_are_set_aside_and_counted(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [{"input": f"{ASK} {n}", "output": GOOD} for n in range(40)])
    same = {"prompt": "x", "chosen": GOOD, "rejected": GOOD}
    write(tmp_path / "prefs.jsonl", [*pairs(150), same])
    found = load(tmp_path, "{file: rows.jsonl, preferences: prefs.jsonl}")
    assert [(r.reason, r.detail) for r in found.rejected] == [
        ("chosen equals rejected", repr(GOOD))
    ]
    write(tmp_path / "prefs.jsonl", [*pairs(50), same])
    with pytest.raises(DataError, match=r"prefs.jsonl:51: chosen equals rejected.*1 of 51 rows"):
        load(tmp_path, "{file: rows.jsonl, preferences: prefs.jsonl}")


HELD = "preferences: prefs.jsonl, preferences_test: held.jsonl"


def write_held_out(folder: Path) -> None:
    """Write train 0-19, test 20-39, preferences 10-19 and 60-129, held-out preferences 200-239."""
    rows = [{"input": f"{ASK} {n}", "output": GOOD} for n in range(40)]
    write(folder / "train.jsonl", rows[:20])
    write(folder / "test.jsonl", rows[20:])
    write(folder / "prefs.jsonl", [*pairs(10, start=10), *pairs(70, start=60)])
    write(folder / "held.jsonl", pairs(40, start=200))


def numbers(preferences: tuple[Any, ...]) -> set[int]:
    return {int(p.input.split()[-1]) for p in preferences}


def test_held_out_preferences_leave_the_others_to_train_and_dev(tmp_path: Path) -> None:
    write_held_out(tmp_path)
    found = load(tmp_path, f"{{train: train.jsonl, test: test.jsonl, {HELD}}}")
    assert numbers(found.test_preferences) == set(range(200, 240))
    train, dev = numbers(found.preferences), numbers(found.dev_preferences)
    assert train | dev == {*range(10, 20), *range(60, 130)}
    assert dev
    assert not train & dev
    assert not numbers(found.preferences) & {int(e.input.split()[-1]) for e in found.dev}
    total = found.fates[-1]
    assert (total["used_preferences"], total["used_preferences_test"]) == (80, 40)
    assert set(found.hashes) == {"train.jsonl", "test.jsonl", "prefs.jsonl", "held.jsonl"}
    assert any("held.jsonl: 40 preferences, held out" in note for note in found.notes)


LEAKING = {
    "its own": ("prefs.jsonl", 205, "preferences in preferences_test", "prefs.jsonl:81"),
    "the test": ("prefs.jsonl", 25, "preferences in test", "prefs.jsonl:81"),
    "a train row": ("held.jsonl", 5, "in preferences_test", "train.jsonl:6"),
}


@pytest.mark.parametrize("name", sorted(LEAKING))
def test_a_leak_of_held_out_preferences_is_refused_dropped_or_kept(
    tmp_path: Path, name: str
) -> None:
    file, number, split, place = LEAKING[name]
    write_held_out(tmp_path)
    with (tmp_path / file).open("a", encoding="utf-8") as out:
        leaking = vary(SHAPES["trl"], number)
        out.write(json.dumps({**leaking, "prompt": f"  {leaking['prompt'].upper()}?"}) + "\n")
    section = f"{{train: train.jsonl, test: test.jsonl, {HELD}"
    with pytest.raises(DataError, match=rf"(?s)1 rows are in more than .*{split}.*{place}"):
        load(tmp_path, section + "}")
    dropped = load(tmp_path, section + ", leak: drop_train}")
    assert [(r.file, r.line) for r in dropped.rejected] == [
        (place.split(":")[0], int(place.split(":")[1]))
    ]
    total = dropped.fates[-1]
    assert total["n_in"] == 161
    assert sum(v for k, v in total.items() if k.startswith("used")) == 160
    kept = load(tmp_path, section + ", leak: allow}")
    assert kept.rejected == ()
    assert len(kept.preferences) + len(kept.dev_preferences) == 80 + (file == "prefs.jsonl")
    assert len(kept.test_preferences) == 40 + (file == "held.jsonl")


def test_held_out_preferences_stand_in_for_the_pairs_of_the_test_rows(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", pairs(60))
    write(tmp_path / "held.jsonl", pairs(10, start=200))
    found = load(tmp_path, "{file: rows.jsonl, preferences_test: held.jsonl}")
    assert numbers(found.test_preferences) == set(range(200, 210))
    assert numbers(found.preferences) == {int(e.input.split()[-1]) for e in found.train}
    (note,) = [note for note in found.notes if note.startswith("held.jsonl")]
    assert f"the {len(found.test)} test rows that are pairs are not used" in note


def test_held_out_answers_without_a_pair_are_refused(tmp_path: Path) -> None:
    write_held_out(tmp_path)
    write(tmp_path / "held.jsonl", [{"prompt": "x", "completion": "y", "label": True}])
    with pytest.raises(DataError, match=r"held.jsonl: has no pair"):
        load(tmp_path, f"{{train: train.jsonl, test: test.jsonl, {HELD}}}")


def test_preferences_that_ask_train_questions_alone_still_leave_some_to_choose_by(
    tmp_path: Path,
) -> None:
    rows = [{"input": f"{ASK} {n}", "output": GOOD} for n in range(140)]
    write(tmp_path / "train.jsonl", rows[:80])
    write(tmp_path / "dev.jsonl", rows[80:100])
    write(tmp_path / "test.jsonl", rows[100:])
    write(tmp_path / "prefs.jsonl", pairs(80))
    files = "train: train.jsonl, dev: dev.jsonl, test: test.jsonl"
    found = load(tmp_path, f"{{{files}, preferences: prefs.jsonl}}")
    assert len(found.preferences) + len(found.dev_preferences) == 80
    assert 5 < len(found.dev_preferences) < 25
    assert found.test_preferences == ()
    assert any("train questions alone" in note for note in found.notes)


def test_rows_that_are_no_pair_are_counted_and_stay_rows(tmp_path: Path) -> None:
    rows = pairs(60)
    rows[3]["rejected"] = rows[3]["chosen"]
    rows[4]["rejected"] = "  "
    rows[5] |= {"prompt": "both"}
    rows[6] |= {"prompt": "Both!", "chosen": rows[5]["rejected"], "rejected": rows[5]["chosen"]}
    write(tmp_path / "rows.jsonl", rows)
    found = load(tmp_path, "{file: rows.jsonl}")
    aside = {"chosen equals rejected": 1, "empty answer": 1, "judged both ways": 2}
    stage = {"stage": "pairs of the rows", "n_in": 60, "used": 56, "quarantined": aside}
    assert found.fates[0] == stage
    assert found.fates[-1]["quarantined"] == {}
    judged = (found.preferences, found.dev_preferences, found.test_preferences)
    assert sum(map(len, judged)) == 56
    assert len(found.train) + len(found.dev) + len(found.test) == 60
    assert {row.line for row in found.rejected} == {4, 5, 6, 7}
    assert all(
        row.reason.startswith("no preference pair, though a row: ") for row in found.rejected
    )
    assert any("4 of 60 rows are no preference pair" in warning for warning in found.warnings)


def test_answers_that_are_judged_both_ways_are_set_aside_together(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [{"input": f"{ASK} {n}", "output": GOOD} for n in range(40)])
    other = {"prompt": f"{ASK} 5 ?", "chosen": BAD, "rejected": GOOD}
    write(tmp_path / "prefs.jsonl", [*pairs(50), other])
    found = load(tmp_path, "{file: rows.jsonl, preferences: prefs.jsonl}")
    assert [(r.line, r.reason) for r in found.rejected] == [
        (6, "judged both ways"),
        (51, "judged both ways"),
    ]
    assert found.fates[-1]["used_preferences"] == 49


def test_columns_that_say_where_a_pair_is_from_are_not_read(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [{"input": f"{ASK} {n}", "output": GOOD} for n in range(40)])
    plain, more = pairs(50), [{**p, "label": 1, "completion": "z", "score": 0.5} for p in pairs(50)]
    both = []
    for rows in (plain, more):
        write(tmp_path / "prefs.jsonl", rows)
        both.append(load(tmp_path, "{file: rows.jsonl, preferences: prefs.jsonl}").preferences)
    assert both[0] == both[1]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": {}, "chosen": GOOD, "rejected": BAD}, "'prompt' should be a text or a list"),
        ({"prompt": ASK, "chosen": GOOD, "rejected": None}, "'rejected' should be a text"),
        ({"prompt": ASK, "chosen": [USER], "rejected": BAD}, "one turn of the assistant"),
        ({"chosen": "one", "rejected": "two"}, "no common question before an 'Assistant:'"),
        ({"input": "x", "preferred_output": [], "non_preferred_output": []}, "with 'messages'"),
        ({"question": "x", "answer": "y"}, "no preference pairs in the columns"),
    ],
)
def test_bad_rows_are_said(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    write(tmp_path / "rows.jsonl", [{"input": f"{ASK} {n}", "output": GOOD} for n in range(40)])
    write(tmp_path / "prefs.jsonl", [row])
    with pytest.raises(DataError, match=words):
        load(tmp_path, "{file: rows.jsonl, preferences: prefs.jsonl}")
