"""The preferences of `brand_voice` follow their known reward, and nothing simpler tells them."""

import json
from itertools import chain
from statistics import mean

import cases
import preferences
import pytest
from tickets import TONES, read_ticket, reply_text

from savile import data, spec

SPLITS = list(preferences.SIZES)
PROMPT = "hello , i am hana , the skeleton smells bad , i am furious"
WANTED = (
    "good morning hana , we heard about the fossil . expect museum to clean it soon . "
    "fair winds , savile harbor"
)


def shipped(split):
    text = (cases.FOLDER / "brand_voice" / f"{split}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_the_wanted_reply_of_every_row_has_the_full_reward():
    rows = list(chain(*cases.draw_case("brand_voice").values()))
    assert len(rows) == 536
    assert {preferences.true_reward(row["input"], row["output"]) for row in rows} == {1.0}


@pytest.mark.parametrize(
    ("reply", "reward"),
    [
        (WANTED, 1.0),
        (WANTED.replace("hana", "igor"), 0.8),
        (WANTED.replace("fossil", "skeleton"), 0.8),
        (WANTED.replace("museum", "media"), 0.8),
        (WANTED.replace("clean it", "inspect it"), 0.8),
        (WANTED.replace("savile harbor", "help desk"), 0.8),
        (WANTED.removesuffix("fair winds , savile harbor"), 6 / 8),
        (f"{WANTED} . {WANTED}", 10 / 15),
        (reply_text(TONES["formal"], read_ticket(PROMPT), "help desk"), 0.0),
        ("", 0.0),
    ],
)
def test_the_reward_of_a_reply_is_its_share_of_right_phrases(reply, reward):
    assert preferences.true_reward(PROMPT, reply) == pytest.approx(reward)


def test_a_text_that_is_no_ticket_has_no_reward():
    with pytest.raises(ValueError, match="no ticket"):
        preferences.true_reward("i am hana , good morning", WANTED)


def test_preference_files_are_the_ones_the_script_writes(tmp_path, monkeypatch):
    (tmp_path / "brand_voice").mkdir()
    monkeypatch.setattr(preferences, "FOLDER", tmp_path)
    preferences.main()
    written = {path.name: path.read_bytes() for path in (tmp_path / "brand_voice").iterdir()}
    splits = ("drafts", "preferences", "preferences_test")
    assert set(written) == {"preferences.yaml", *(f"{split}.jsonl" for split in splits)}
    for name, content in written.items():
        assert content == (cases.FOLDER / "brand_voice" / name).read_bytes()


@pytest.mark.parametrize("split", SPLITS)
def test_the_chosen_answer_always_has_the_higher_reward(split):
    rows = shipped(split)
    assert len(rows) == preferences.SIZES[split]
    for row in rows:
        assert set(row) == {"prompt", "chosen", "rejected"}
        chosen, rejected = (
            preferences.true_reward(row["prompt"], row[side]) for side in ("chosen", "rejected")
        )
        assert chosen - rejected >= preferences.LEAST_GAP


@pytest.mark.parametrize("split", SPLITS)
def test_length_hardly_tells_the_chosen_answer(split):
    gaps = [len(row["chosen"].split()) - len(row["rejected"].split()) for row in shipped(split)]
    assert 0.45 < mean((gap > 0) + (gap == 0) / 2 for gap in gaps) < 0.6


@pytest.mark.parametrize("split", SPLITS)
def test_the_wanted_reply_is_rare_among_the_chosen(split):
    rows = shipped(split)
    perfect = mean(preferences.true_reward(row["prompt"], row["chosen"]) == 1.0 for row in rows)
    assert perfect < 0.1


def test_the_drafts_answer_the_train_questions_and_leave_room_for_better_replies():
    rows = shipped("drafts")
    train = [row["input"] for row in cases.draw_case("brand_voice")["train"]]
    assert [row["input"] for row in rows] == train
    rewards = [preferences.true_reward(row["input"], row["output"]) for row in rows]
    assert 0.5 < mean(rewards) < 0.7


def test_no_prompt_occurs_in_two_splits():
    prompts = [row["prompt"] for split in SPLITS for row in shipped(split)]
    inputs = [row["input"] for rows in cases.draw_case("brand_voice").values() for row in rows]
    assert len({*prompts, *inputs}) == len(prompts) + len(inputs)


def test_the_task_file_gives_preferences_of_every_split():
    task = spec.load(cases.FOLDER / "brand_voice" / "preferences.yaml")
    dataset = data.load(task)
    assert dataset.gives >= {"pairs", "preferences"}
    parts = (dataset.preferences, dataset.dev_preferences, dataset.test_preferences)
    learned = preferences.SIZES["preferences"]
    assert len(parts[0]) + len(parts[1]) == learned
    assert len(parts[1]) >= 80
    assert len(parts[2]) == preferences.SIZES["preferences_test"]
    candidates = task.candidates(dataset.gives, len(dataset.train))
    assert [candidate.reason for candidate in candidates] == [None] * len(candidates)
