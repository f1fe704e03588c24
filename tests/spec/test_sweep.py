"""Lists of values in a ladder: a technique for each, faults once, lists that settings want."""

from typing import Any

import pytest

from savile.spec.ladder import MAX_ITEMS, parse
from savile.spec.sweep import variants


def names(*items: Any) -> list[str]:
    candidates, faults = parse(list(items))
    assert not faults
    return [candidate.name for candidate in candidates]


def test_a_list_is_a_technique_for_each_value() -> None:
    assert names({"few_shot": {"k": ["1", 4]}}, "lora") == [
        "few_shot(k=1)",
        "few_shot(k=4)",
        "lora",
    ]
    assert names({"one_shot": {"selection": ["random"]}}) == ["one_shot(selection=random)"]


def test_lists_give_every_combination_in_the_order_they_are_written() -> None:
    item = {"nearest+lora": {"nearest": {"k": [1, 2]}, "lora": {"r": [4, 8]}}}
    assert names(item) == [
        f"nearest(k={k})+lora(r={r})" for k, r in ((1, 4), (1, 8), (2, 4), (2, 8))
    ]
    assert names({"nearest+lora": {"k": [1, 2]}}) == ["nearest(k=1)+lora", "nearest(k=2)+lora"]


def test_a_setting_that_wants_a_list_gets_it() -> None:
    item = {"lora": {"target_modules": ["q_proj", "v_proj"]}}
    assert variants(item, {}) == [item]
    assert len(names(item)) == 1


@pytest.mark.parametrize("item", ["lora", 3, None, {"few_shot": 3}, {"few_shot": {"kk": [1, 2]}}])
def test_what_sweeps_nothing_stays_as_it_is(item: Any) -> None:
    assert variants(item, {}) == [item]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"k": [1, "x"]}, ["whole number"]),
        ({"k": [1, [2]]}, ["whole number"]),
        ({"k": []}, ["whole number"]),
        ({"k": [2, 2]}, ["same technique"]),
        ({"k": [1, 2, 3], "selection": "best"}, ["'selection' should be"]),
        ({"k": [1, 2], "kk": 1}, ["unknown key 'kk'"]),
    ],
)
def test_a_fault_is_said_once(settings: dict[str, Any], words: list[str]) -> None:
    _, faults = parse([{"few_shot": settings}])
    assert [word in fault.what for fault, word in zip(faults, words, strict=True)] == [True]


def test_too_many_techniques_are_refused() -> None:
    _, faults = parse(["zero_shot", {"few_shot": {"k": list(range(1, MAX_ITEMS + 2))}}])
    assert faults[0].loc == ("ladder", 1)
    assert faults[0].found == f"{MAX_ITEMS + 2}, of which this item alone gives {MAX_ITEMS + 1}"
    _, faults = parse([{"few_shot": {"k": k}} for k in range(1, MAX_ITEMS + 2)])
    assert (faults[0].loc, faults[0].found) == (("ladder",), str(MAX_ITEMS + 1))


def test_a_product_that_explodes_is_counted_and_never_made() -> None:
    """10^12 techniques would fill any memory."""
    hundred = list(range(1, 101))
    sampled = {"n": hundred, "temperature": hundred, "top_p": hundred}
    several = {"few_shot": {"k": hundred}, "self_consistency": sampled}
    spread = {"format": {"separator": hundred, "between": hundred}}
    _, faults = parse([{"few_shot+self_consistency+format": {**several, **spread}}])
    assert "1,000,000,000,000" in faults[0].found
    assert "every combination" in faults[0].fix


def test_two_parts_that_choose_the_examples_cannot_stand_together() -> None:
    (candidate,), _ = parse(["few_shot+nearest"])
    assert candidate.reason == "few_shot and nearest both change the prompt's examples"
    assert parse(["system+nearest+chain_of_thought"])[0][0].reason is None
