"""Prompt tuning: where its vectors start and where they stand."""

import pytest
import torch

from savile.deltas.base import PROMPT_EMBEDDINGS
from savile.deltas.prompt_tuning import PromptTuning
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


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom", "mistral"])
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
