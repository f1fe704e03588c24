"""A text's vector is the mean of the base's own last states, on a tree as on padded batches."""

import numpy as np
import pytest
import torch

from savile.lm.states import mean_states
from savile.types import Message
from tests import tiny

TEXTS = ["where is my card", "where is", "where", "refund <s> please", "", "Ünïcode", "z" * 400]


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "bloom"])
def test_the_mean_of_the_states_of_the_turn(family: str) -> None:
    lm = tiny.lm(family)
    found = mean_states(lm, TEXTS)
    lm.model.set_attn_implementation("eager")
    opening = len("<") + len("user\n") + 1  # start token, start of turn, the role
    for text, vector in zip(TEXTS, found, strict=True):
        ids = lm.encode_prompt([Message(role="user", content=text)])[: lm.context]
        with torch.no_grad():
            states = lm.model.base_model(torch.tensor([ids])).last_hidden_state[0]
        np.testing.assert_allclose(vector, states[opening:].mean(0), rtol=2e-4, atol=2e-4)


def test_the_order_of_texts_does_not_matter_and_packs_do_not_either() -> None:
    lm = tiny.lm("llama")
    many = [f"text {i} " * (i % 9) for i in range(120)]
    found = mean_states(lm, many)
    assert found.shape == (120, tiny.WIDTH)
    np.testing.assert_allclose(mean_states(lm, many[::-1])[::-1], found, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(mean_states(lm, many[7:8])[0], found[7], rtol=1e-4, atol=1e-4)
