"""The cases' labels, items, verbs and inputs are held out of what pretraining could leak."""

import json
import random
from pathlib import Path

import cases
import lexicon as lex
import pytest
from routing import classification, clean_start, policy, symbol_map
from world import arithmetic, draw_document, replies

LABEL_FAMILIES = [classification, clean_start, policy, symbol_map]
CASES = Path(cases.FOLDER)


@pytest.mark.parametrize("family", LABEL_FAMILIES, ids=lambda family: family.__name__)
def test_label_mapping_documents_know_no_case_label_and_no_held_out_item(family):
    rng = random.Random(11)
    for _ in range(1500):
        document = family(rng, 256)
        words = {word for turn in document for word in turn.text.split()}
        assert not words & set(lex.CASE_LABELS)
        assert not words & lex.HELD_OUT_WORDS


def test_held_out_problems_never_decide_a_label():
    rng = random.Random(12)
    for _ in range(300):
        prompts = classification(rng, 64, kind="problem") + policy(rng, 64)
        shown = {word for turn in prompts if turn.role != "user" for word in turn.text.split()}
        assert not shown & set(lex.HELD_OUT_PROBLEMS)


def test_arithmetic_documents_never_use_the_case_verbs():
    rng = random.Random(13)
    for _ in range(1500):
        words = {word for turn in arithmetic(rng, 256) for word in turn.text.split()}
        assert not words & set(lex.CASE_VERBS)


def test_no_case_input_occurs_in_the_corpus():
    inputs = {
        row.get("input") or row["prompt"]
        for path in CASES.glob("*/*.jsonl")
        for row in map(json.loads, path.read_text().splitlines())
    }
    assert len(inputs) > 2000
    rng = random.Random(14)
    for _ in range(3000):
        for turn in draw_document(rng, 256):
            text = turn.text.removesuffix(" think step by step")
            assert turn.role != "user" or text not in inputs


def test_no_reply_opens_like_the_brand_of_the_voice_case():
    rng, opening = random.Random(15), "good morning"
    assert cases.BRAND.greeting.startswith(opening)
    heard = 0
    for _ in range(2000):
        for turn in replies(rng, 256):
            heard += turn.role == "user" and opening in turn.text
            assert turn.role == "user" or opening not in turn.text
    assert heard > 100


@pytest.mark.parametrize("name", list(cases.CASES))
def test_case_files_are_the_ones_the_script_writes(name, tmp_path):
    cases.write_case(name, tmp_path)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (CASES / name / path.name).read_bytes()


@pytest.mark.parametrize("name", list(cases.CASES))
def test_splits_share_no_input(name):
    rows = [
        json.loads(line)["input"]
        for split in ("train", "dev", "test")
        for line in (CASES / name / f"{split}.jsonl").read_text().splitlines()
    ]
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize("name", list(cases.TEST_DRAWS))
def test_a_replaced_test_split_shares_no_input_with_what_is_shipped(name, monkeypatch):
    shipped = cases.draw_case(name)
    monkeypatch.setattr(cases, "TEST_DRAWS", {})
    first = cases.draw_case(name)
    assert (first["train"], first["dev"]) == (shipped["train"], shipped["dev"])
    assert len(first["test"]) == len(shipped["test"])
    inputs = {row["input"] for rows in shipped.values() for row in rows}
    assert not inputs & {row["input"] for row in first["test"]}


def test_lexicon_words_play_one_role():
    lex.check_lexicon()
