"""A candidate of the spec becomes a technique: prompts, delta and objective."""

import pytest

from savile.prompts.base import Frame
from savile.prompts.few_shot import FewShot
from savile.spec.ladder import Candidate
from savile.technique import build
from savile.types import Example

TRAIN = [Example(id=str(i), input=f"x{i}", output="ab"[i % 2]) for i in range(12)]


def candidate(*prompts: tuple[str, dict[str, object]], tuned: bool = False) -> Candidate:
    return Candidate(
        name="made",
        prompts=prompts,
        deltas=(("lora", {"r": 4}),) if tuned else (),
        objectives=(("sft", {}),) if tuned else (),
    )


def test_every_part_gets_its_settings() -> None:
    made = build(candidate(("few_shot", {"k": 3}), tuned=True), Frame())
    assert made.prompts == (FewShot(k=3),)
    assert type(made.delta).__name__ == "LoRA"
    assert getattr(made.delta, "r", None) == 4
    assert [type(objective).__name__ for objective in made.objectives] == ["SFT"]


def test_an_empty_chain_is_zero_shot() -> None:
    made = build(candidate(), Frame())
    assert (made.prompts, made.delta, made.objectives) == ((), None, ())
    assert made.frame(Frame(instruction="x"), TRAIN, 0) == Frame(instruction="x")
    assert not made.stochastic


@pytest.mark.parametrize(
    ("prompts", "tuned", "stochastic"),
    [
        ([("zero_shot", {})], False, False),
        ([("system", {})], False, False),
        ([("few_shot", {})], False, True),
        ([("system", {}), ("few_shot", {})], False, True),
        ([], True, True),
    ],
)
def test_the_seed_matters_where_something_is_drawn(
    prompts: list[tuple[str, dict[str, object]]], tuned: bool, stochastic: bool
) -> None:
    assert build(candidate(*prompts, tuned=tuned), Frame()).stochastic is stochastic


def test_prompts_fold_in_any_order() -> None:
    chains = [
        [("system", {}), ("few_shot", {"k": 2}), ("chain_of_thought", {})],
        [("chain_of_thought", {}), ("few_shot", {"k": 2}), ("system", {})],
    ]
    frames = [build(candidate(*c), Frame()).frame(Frame(system="s"), TRAIN, 1) for c in chains]  # type: ignore[arg-type]
    assert frames[0] == frames[1]
    assert frames[0].reasoning
    assert frames[0].use_system
    assert len(frames[0].demonstrations) == 2


def test_the_seed_chooses_the_demonstrations() -> None:
    made = build(candidate(("few_shot", {"k": 2})), Frame())
    shown = [made.frame(Frame(), TRAIN, seed).demonstrations for seed in (1, 1, 2, 3)]
    assert shown[0] == shown[1]
    assert len({str(s) for s in shown}) > 1


@pytest.mark.parametrize(
    ("settings", "setting", "wanted"),
    [
        ({"prompt_tuning_init": "instruction"}, "prompt_tuning_init_text", "route it"),
        ({"prompt_tuning_init": "labels"}, "prompt_tuning_init_labels", ("left", "right")),
        (
            {"prompt_tuning_init": "labels", "prompt_tuning_init_labels": ("up",)},
            "prompt_tuning_init_labels",
            ("up",),
        ),
        ({"prompt_tuning_init": "text"}, "prompt_tuning_init_text", None),
        ({}, "prompt_tuning_init_labels", None),
    ],
)
def test_a_delta_takes_the_words_of_the_task_where_it_is_asked_to(
    settings: dict[str, object], setting: str, wanted: object
) -> None:
    made = Candidate(name="made", deltas=(("prompt_tuning", settings),), objectives=(("sft", {}),))
    delta = build(made, Frame(instruction="route it", labels=("left", "right"))).delta
    assert getattr(delta, setting) == wanted
