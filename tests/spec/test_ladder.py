"""The ladder's grammar: names, settings, needs, and the ladder called `auto`."""

from __future__ import annotations

from typing import Any

import pytest

from savile import registry
from savile.spec.ladder import Candidate, auto, parse, reason
from savile.spec.loading import written

GIVES = frozenset({"pairs", "plain_weights"})


def one(item: Any) -> Candidate:
    candidates, faults = parse([item])
    assert not faults
    return candidates[0]


def fault(item: Any) -> str:
    candidates, faults = parse([item])
    assert not candidates
    return faults[0].what


@pytest.mark.parametrize(
    ("item", "name"),
    [
        ("zero_shot", "zero_shot"),
        ("one_shot", "one_shot"),
        ({"few_shot": {"k": "4"}}, "few_shot(k=4)"),
        ({"few_shot+lora": {"k": 4}}, "few_shot(k=4)+lora"),
        ("system+few_shot", "system+few_shot"),
        ({"few_shot+lora": {"few_shot": {"k": 4}, "lora": {"r": 4}}}, "few_shot(k=4)+lora(r=4)"),
        ({"few_shot": {"selection": "random", "k": 2}}, "few_shot(k=2, selection=random)"),
        ({"one_shot": {"selection": "random"}}, "one_shot(selection=random)"),
        ("lora", "lora"),
        ("full+sft", "full+sft"),
    ],
)
def test_names_show_the_settings_that_were_given(item: Any, name: str) -> None:
    assert one(item).name == name


def test_one_shot_is_few_shot_with_one() -> None:
    candidate = one("one_shot")
    assert candidate.prompts == (("few_shot", {"k": 1}),)
    assert candidate.demonstrations == 1


def test_a_delta_is_trained_by_sft_and_an_objective_trains_everything() -> None:
    assert one("lora").objectives == (("sft", {}),)
    assert one("sft").deltas == (("full", {}),)
    assert one("zero_shot").objectives == ()


def test_objectives_are_a_chain_in_the_order_they_are_written() -> None:
    assert [name for name, _ in one("lora+sft+dpo").objectives] == ["sft", "dpo"]
    assert one(["lora", "sft", "dpo"]) == one("lora+sft+dpo")
    assert "reward" not in one("lora+sft+reward+ppo").needs
    assert "reward" in one("lora+ppo").needs


def test_what_nothing_answers_with_cannot_be_measured() -> None:
    assert one("lora+sft+reward").reason is None  # sft's policy answers
    said = one("lora+reward").reason
    assert said is not None
    assert said.startswith("reward trains nothing that answers")


def test_deltas_that_change_the_same_place_cannot_train_together() -> None:
    assert one("prompt_tuning+lora").reason is None
    assert one("full+lora").reason is None
    assert one("prompt_tuning+p_tuning").reason == (
        "prompt_tuning and p_tuning both change the base's virtual tokens"
    )


def test_settings_are_typed() -> None:
    candidate = one({"lora": {"learning_rate": "1e-3"}})
    assert candidate.deltas == (("lora", {"learning_rate": 1e-3}),)


def test_chain_of_thought_turns_pairs_into_rationales() -> None:
    assert one("few_shot").needs == {"pairs"}
    assert one("lora").needs == {"pairs", "weights"}
    assert one("chain_of_thought").needs == frozenset()
    assert one("few_shot+chain_of_thought").needs == {"rationales"}
    assert one("chain_of_thought+lora").needs == {"rationales", "weights"}


def test_the_reason_names_what_to_give() -> None:
    assert reason(frozenset({"pairs"}), GIVES) is None
    said = reason(frozenset({"rationales"}), GIVES)
    assert said is not None
    assert "data.rationale" in said


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("few_shott", "did you mean 'few_shot'?"),
        ("few_shot+few_shot", "occurs twice"),
        ("one_shot+few_shot", "occurs twice"),
        ({"few_shot": {"k": "many"}}, "whole number"),
        ({"few_shot": {"selection": "balancd"}}, "did you mean 'balanced'?"),
        ({"few_shot": 3}, "should be a section"),
        ({"full+lora": {"learning_rate": 1}}, "could belong to full or lora"),
        ([1], "should be a name"),
        (None, "should be a name"),
    ],
)
def test_faults(item: Any, words: str) -> None:
    assert words in fault(item)


def test_a_setting_that_two_parts_have_must_be_nested() -> None:
    shared = [
        (a.name, b.name, s.name)
        for a in registry.parts("prompts").values()
        for b in registry.parts("deltas").values()
        for s in a.settings
        if s.name in {t.name for t in b.settings}
    ]
    for prompt, delta, setting in shared[:1]:
        assert "could belong to" in fault({f"{prompt}+{delta}": {setting: 1}})


def test_the_same_technique_twice_is_a_fault() -> None:
    _, faults = parse(["one_shot", {"few_shot": {"k": 1}}])
    assert "same technique as item 1" in faults[0].what


@pytest.mark.parametrize("item", ["one_shot", "few_shot+lora", {"few_shot": {"k": 3}}])
def test_written_reads_back(item: Any) -> None:
    candidate = one(item)
    assert one(written(candidate)) == candidate


def test_auto_is_valid_and_grows_with_what_the_data_give() -> None:
    small = [c.name for c in parse(auto(GIVES, 20))[0]]
    large = [c.name for c in parse(auto(GIVES | {"system", "rationales"}, 1000))[0]]
    assert small[:3] == ["zero_shot", "one_shot", "few_shot(k=8)"]
    assert "few_shot(k=16)" not in small
    known = registry.parts("deltas")
    assert {n for n, p in known.items() if p.facts.get("in_auto", True)} == set(known) & set(small)
    for name in ("few_shot(k=16)", "system", "chain_of_thought", "chain_of_thought+lora"):
        assert name in large
    assert all(reason(c.needs, GIVES | {"weights"}) is None for c in parse(auto(GIVES, 20))[0])


@pytest.mark.parametrize("n_train", [1, 3, 8, 64])
def test_auto_never_asks_for_more_demonstrations_than_rows(n_train: int) -> None:
    candidates, faults = parse(auto(GIVES | {"system", "rationales"}, n_train))
    assert not faults
    assert max(c.demonstrations for c in candidates) <= n_train
    assert all(c.demonstrations < n_train for c in candidates if c.deltas)


def test_a_default_that_is_written_out_is_the_same_technique() -> None:
    assert dict(one("lora").every_setting)["lora"]["r"] == 8
    _, faults = parse(["lora", {"lora": {"r": 8}}])
    assert "same technique as item 1" in faults[0].what
