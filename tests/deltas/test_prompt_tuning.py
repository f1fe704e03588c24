"""Prompt tuning: where its vectors start and where they stand."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import pytest
import torch

from savile.deltas.base import PROMPT_EMBEDDINGS
from savile.deltas.prompt_tuning import PromptTuning
from savile.errors import UsageError
from savile.lm.model import LM
from savile.lm.tree import Paths, build
from tests import tiny


def start(delta: PromptTuning, lm: LM, seed: int = 0) -> torch.Tensor:
    with delta.attach(lm, seed) as attached:
        return attached.state()[PROMPT_EMBEDDINGS]


def table(lm: LM) -> torch.Tensor:
    return lm.model.get_input_embeddings().get_parameter("weight").detach()


def test_it_starts_from_the_vocabulary() -> None:
    lm = tiny.lm("llama")
    vectors = start(PromptTuning(num_virtual_tokens=6), lm)
    assert vectors.shape == (6, tiny.WIDTH)
    rows = (vectors[:, None] == table(lm)[None]).all(-1)
    assert rows.any(-1).all()
    assert not torch.equal(vectors, start(PromptTuning(num_virtual_tokens=6), lm, seed=1))


@pytest.mark.parametrize("n", [2, 5, 12])
def test_it_starts_from_a_text_repeated_or_cut(n: int) -> None:
    lm = tiny.lm("llama")
    delta = PromptTuning(
        num_virtual_tokens=n, prompt_tuning_init="text", prompt_tuning_init_text="color"
    )
    ids = lm.encode_completion("color")[:-1]
    wanted = table(lm)[[ids[i % len(ids)] for i in range(n)]]
    assert torch.equal(start(delta, lm), wanted)


def test_noise_has_the_scale_of_the_embedding() -> None:
    lm = tiny.lm("llama")
    noise = start(PromptTuning(num_virtual_tokens=200, prompt_tuning_init="random"), lm)
    assert float(noise.std()) == pytest.approx(float(table(lm).square().mean().sqrt()), rel=0.1)


def test_it_starts_from_the_words_of_the_task() -> None:
    lm = tiny.lm("llama")
    delta = PromptTuning(num_virtual_tokens=7, prompt_tuning_init="instruction")
    text = PromptTuning(
        num_virtual_tokens=7, prompt_tuning_init="text", prompt_tuning_init_text="route it"
    )
    assert torch.equal(start(delta.for_task("route it", ()), lm), start(text, lm))
    own = replace(delta, prompt_tuning_init_text="my own")
    assert own.for_task("route it", ()) == own


def means(lm: LM, labels: Sequence[str]) -> list[torch.Tensor]:
    return [table(lm)[lm.encode_completion(label)[:-1]].mean(0) for label in labels]


def rank(vectors: torch.Tensor, wanted: Sequence[torch.Tensor]) -> list[int]:
    """Return at which place of `vectors` each wanted one stands, -1 where it does not."""
    found = []
    for one in wanted:
        same = torch.isclose(vectors, one, rtol=1e-5, atol=1e-6).all(-1).nonzero().flatten()
        found.append(int(same[0]) if len(same) else -1)
    return found


def test_it_starts_from_the_labels_one_vector_each_and_fills_up_from_the_vocabulary() -> None:
    lm = tiny.lm("llama")
    labels = ("left", "right", "straight on")
    delta = PromptTuning(num_virtual_tokens=5, prompt_tuning_init="labels")
    vectors = start(delta.for_task(None, labels), lm)
    assert sorted(rank(vectors, means(lm, labels))) == [0, 1, 2]
    rest = (vectors[3:, None] == table(lm)[None]).all(-1)
    assert rest.any(-1).all()
    assert delta.for_task(None, labels) == replace(delta, prompt_tuning_init_labels=labels)


def test_of_more_labels_than_vectors_the_seed_draws_some() -> None:
    lm = tiny.lm("llama")
    labels = [f"label {letter}" for letter in "abcdefgh"]
    delta = PromptTuning(num_virtual_tokens=3, prompt_tuning_init="labels").for_task(None, labels)
    shown = [rank(start(delta, lm, seed), means(lm, labels)) for seed in range(4)]
    assert all(sorted(places)[-3:] == [0, 1, 2] for places in shown)
    assert len({tuple(places) for places in shown}) > 1


@pytest.mark.parametrize("init", ["text", "instruction", "labels"])
def test_a_start_without_its_words_is_refused(
    init: Literal["text", "instruction", "labels"],
) -> None:
    delta = PromptTuning(prompt_tuning_init=init).for_task(None, ())
    with pytest.raises(UsageError, match=f"prompt_tuning_init: {init}"):
        delta.attach(tiny.lm("llama"), 0)


def test_a_text_that_is_missing_is_not_taken_from_the_task() -> None:
    delta = PromptTuning(prompt_tuning_init="text").for_task("route it", ("left", "right"))
    with pytest.raises(UsageError, match="no text"):
        delta.attach(tiny.lm("llama"), 0)


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom", "mistral", "gemma2"])
def test_vectors_of_real_tokens_are_those_tokens(family: str) -> None:
    lm = tiny.lm(family)
    ids = lm.encode_completion("soft")[:-1]
    delta = PromptTuning(
        num_virtual_tokens=4, prompt_tuning_init="text", prompt_tuning_init_text="soft"
    )
    wanted = [Paths([*ids, *group.prompt], group.completions) for group in tiny.groups()]
    with torch.no_grad():
        hard = lm.logprobs(build(wanted))
        with delta.attach(lm, 0):
            soft = lm.logprobs(build(tiny.groups()))
    torch.testing.assert_close(soft, hard, rtol=1e-5, atol=1e-5)
