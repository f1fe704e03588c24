"""Merged adapters equal PEFT's `add_weighted_adapter`, and what the papers say."""

import warnings
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor

from savile.deltas.base import generator
from savile.deltas.lora import LoRA
from savile.errors import IntegrityError, UsageError
from savile.lm import merging
from savile.lm.merging import Combination, combine
from savile.objectives.base import Objective
from savile.objectives.dare import DARE
from savile.objectives.soup import Soup
from savile.objectives.ties import TIES
from tests import tiny
from tests.gates import Gate
from tests.parity.peft_files import close, our_logprobs, their_logprobs

pytestmark = [
    # PEFT 0.21 reads a name that transformers 5 renamed.
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
]
COMBINATIONS: tuple[Combination, ...] = ("linear", "ties", "dare_linear", "dare_ties")
WEIGHTS = [0.7, 0.5, 1.3]
ALPHAS = [8.0, 4.0, 2.0]
RANK = 4
SCALES = [alpha / RANK for alpha in ALPHAS]
DENSITY = 0.6


def three() -> tuple[PeftModel, list[dict[str, Tensor]]]:
    """Return a PEFT model with three adapters, and their factors under our names."""
    model = tiny.model("llama")
    names = sorted({s.name.rsplit(".", 1)[-1] for s in tiny.lm("llama").sites.linear_maps()})
    made: PeftModel | None = None
    for number, alpha in enumerate(ALPHAS):
        config = LoraConfig(
            r=RANK, lora_alpha=alpha, target_modules=names, task_type="CAUSAL_LM"  # type: ignore[arg-type]
        )  # fmt: skip
        if made is None:
            found = get_peft_model(model, config, adapter_name="0")
            assert isinstance(found, PeftModel)
            made = found
        else:
            made.add_adapter(str(number), config)
    assert made is not None
    rng = generator(0)
    states: list[dict[str, Tensor]] = [{} for _ in ALPHAS]
    for name, parameter in made.named_parameters():
        for number in range(len(ALPHAS)):
            if name.endswith(f".{number}.weight"):
                parameter.data = torch.randn(parameter.shape, generator=rng) * 0.1
                short = name.removeprefix("base_model.model.").removesuffix(f".{number}.weight")
                states[number][short] = parameter.data
    return made.eval(), states


def combined(
    model: PeftModel,
    combination: str,
    rank: int | None = None,
    weights: Sequence[float] = WEIGHTS,
) -> dict[str, Tensor]:
    """Let PEFT merge the three; return the result's factors under our names, and activate it."""
    make: Any = model.base_model.inject_adapter

    def seeded(*given: Any, **named: Any) -> None:
        make(*given, **named)  # draws a start for the merged adapter, which is then overwritten
        torch.manual_seed(11)

    model.base_model.inject_adapter = seeded  # type: ignore[assignment, method-assign]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of svd_rank, which defaults to the largest rank
        model.base_model.add_weighted_adapter(  # type: ignore[operator, union-attr]
            ["0", "1", "2"], list(weights), "merged", combination_type=combination,
            density=None if combination == "linear" else DENSITY, svd_rank=rank,
        )  # fmt: skip
    model.set_adapter("merged")
    return {
        name.removeprefix("base_model.model.").removesuffix(".merged.weight"): p.detach()
        for name, p in model.named_parameters()
        if name.endswith(".merged.weight")
    }


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_merged_factors_are_pefts(combination: Combination) -> None:
    model, states = three()
    theirs = combined(model, combination)
    how = combine(combination, DENSITY, generator(11))
    ours = merging.merge_factors(states, SCALES, WEIGHTS, how)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert bool(tensor.any())
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("objective", "combination", "weight"),
    [
        (Soup(), "linear", 1 / 9),
        (TIES(density=DENSITY), "ties", 1.0),
        (DARE(density=DENSITY), "dare_linear", 1 / 9),
    ],
)
def test_copies_of_lora_merge_as_pefts_factors_do(
    objective: Objective, combination: str, weight: float, gate: Gate
) -> None:
    """PEFT gives each factor the root of its weight times its scale, and merges no start."""
    model, states = three()
    theirs = combined(model, combination, weights=[weight / s for s in SCALES])
    start = {name: torch.zeros_like(tensor) for name, tensor in states[0].items()}
    ours = objective.merged(states, start, seed=11)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-5, atol=1e-6)
        apart = float((tensor - theirs[name]).abs().max())
        gate(objective, "parity", apart, "PEFT add_weighted_adapter, state")


def test_a_soup_of_lora_is_pefts_average_from_any_start() -> None:
    model, states = three()
    theirs = combined(model, "linear", weights=[1 / 9 / s for s in SCALES])
    start = {name: torch.randn(t.shape, generator=generator(3)) for name, t in states[0].items()}
    ours = Soup().merged(states, start, seed=0)
    lm = tiny.lm("llama")
    with LoRA(r=RANK, lora_alpha=float(RANK)).attach(lm, 0) as attached, torch.no_grad():
        attached.load(ours)
        close(our_logprobs(lm), their_logprobs(model))
    assert ours.keys() == theirs.keys()


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_merged_updates_are_pefts_svd(combination: Combination) -> None:
    model, states = three()
    theirs = combined(model, "svd" if combination == "linear" else f"{combination}_svd", rank=3)
    how = combine(combination, DENSITY, generator(11))
    ours = merging.merge_updates(states, SCALES, WEIGHTS, how, r=3)
    assert ours.keys() == theirs.keys()
    for name in ours:
        if name.endswith("lora_A"):
            b = name.replace("lora_A", "lora_B")
            wanted = theirs[b] @ theirs[name]
            torch.testing.assert_close(ours[b] @ ours[name], wanted, rtol=1e-4, atol=1e-6)


def test_concatenated_updates_are_pefts_and_attach_as_lora() -> None:
    model, states = three()
    theirs = combined(model, "cat")
    ours = merging.concatenated(states, SCALES, WEIGHTS)
    for name in ours:
        if name.endswith("lora_A"):
            b = name.replace("lora_A", "lora_B")
            torch.testing.assert_close(ours[b] @ ours[name], theirs[b] @ theirs[name])
    lm, r = tiny.lm("llama"), 3 * RANK
    with LoRA(r=r, lora_alpha=float(r)).attach(lm, 0) as attached, torch.no_grad():
        attached.load(ours)
        close(our_logprobs(lm), their_logprobs(model))


def test_a_full_rank_of_merged_updates_is_the_weighted_sum() -> None:
    _, states = three()
    exact = merging.concatenated(states, SCALES, WEIGHTS)
    merged = merging.merge_updates(states, SCALES, WEIGHTS, merging.linear, r=3 * RANK)
    for name in exact:
        if name.endswith("lora_A"):
            b = name.replace("lora_A", "lora_B")
            wanted = exact[b] @ exact[name]
            torch.testing.assert_close(merged[b] @ merged[name], wanted, rtol=1e-4, atol=1e-5)


def test_ties_on_a_worked_example() -> None:
    """Figure 1 of the paper in numbers: trim, elect by mass, average what agrees."""
    tensors = torch.tensor([[4.0, 1.0, -3.0, 0.5], [-1.0, 2.0, -2.0, 0.4], [3.0, -5.0, 0.1, -0.2]])
    # density 1/2 leaves [4, 0, -3, 0], [0, 2, -2, 0], [3, -5, 0, 0]
    merged = merging.ties(tensors, torch.ones(3), 0.5)
    assert merged.tolist() == pytest.approx([3.5, -5.0, -2.5, 0.0])


def test_dare_keeps_the_expectation() -> None:
    tensor = torch.linspace(-1, 2, 50)
    rng = generator(0)
    drawn = torch.stack([merging.dropped(tensor, 0.3, rng) for _ in range(4000)])
    assert bool(((drawn == 0) | torch.isclose(drawn, tensor / 0.3)).all())
    assert float((drawn != 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    torch.testing.assert_close(drawn.mean(0), tensor, rtol=0, atol=0.2)


def test_weights_of_any_kind_can_be_averaged() -> None:
    states = [{"x": torch.full((2, 3), 1.0), "y": torch.tensor([2.0])}]
    states.append({"x": torch.full((2, 3), 4.0), "y": torch.tensor([-2.0])})
    merged = merging.merge(states, [0.5, 0.5], merging.linear)
    assert torch.equal(merged["x"], torch.full((2, 3), 2.5))
    assert merged["y"].tolist() == [0.0]


def test_changes_are_merged_in_float32_and_rounded_once() -> None:
    start = {"x": torch.tensor([1.0, -3.0], dtype=torch.bfloat16)}
    states = [{"x": torch.tensor(x, dtype=torch.bfloat16)} for x in ([1, 4], [2, 8], [3, -9])]
    merged = merging.merge_changes(states, start, [1 / 3] * 3, merging.linear)
    assert merged["x"].dtype == torch.bfloat16
    assert merged["x"].tolist() == [2.0, 1.0]


def test_what_does_not_fit_together_is_refused() -> None:
    _, states = three()
    first = next(iter(states[0]))
    magnitude = first.replace("lora_A", "lora_magnitude_vector")
    how = combine("linear", 1.0, generator(0))
    for wrong in ({first: states[0][first]}, {**states[0], magnitude: torch.ones(3)}):
        with pytest.raises(UsageError, match="only pairs A and B"):
            merging.merge_factors([states[0], wrong], [1.0, 1.0], [1.0, 1.0], how)
    other = {name: torch.zeros(2, 2) for name in states[0]}
    with pytest.raises(IntegrityError, match="different shapes"):
        merging.merge_factors([states[0], other], [1.0, 1.0], [1.0, 1.0], how)
    with pytest.raises(IntegrityError, match="different shapes"):
        merging.merge([{"x": torch.zeros(1)}, {"y": torch.zeros(1)}], [1.0, 1.0], how)
    with pytest.raises(IntegrityError, match="different shapes"):
        merging.merge_changes([{"x": torch.zeros(1)}], {"x": torch.zeros(2)}, [1.0], how)


@pytest.mark.parametrize("density", [0.0, -0.1, 1.1])
def test_a_share_that_is_none_is_refused(density: float) -> None:
    with pytest.raises(UsageError, match="density"):
        combine("ties", density, generator(0))
