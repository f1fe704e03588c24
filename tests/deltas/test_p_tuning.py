"""P-tuning: how often its encoder computes, and what of it is trained."""

import pytest
import torch

from savile.deltas.p_tuning import PTuning
from savile.errors import UsageError
from savile.job import Job, Plan
from savile.lm.model import LM
from savile.lm.tree import build
from savile.metrics.exact_match import ExactMatch
from savile.objectives.sft import SFT
from savile.prompts.base import Frame
from savile.train import train
from savile.types import Example
from tests import tiny
from tests.contracts.tree_gate import gradients

MLP = PTuning(num_virtual_tokens=4, encoder_reparameterization_type="MLP")


@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_the_encoder_computes_once_in_a_forward_pass(family: str) -> None:
    lm = tiny.lm(family)
    with MLP.attach(lm, 0):
        assert lm.root is not None
        counted: list[int] = []
        vectors = lm.root.vectors
        lm.root = lm.root._replace(vectors=lambda: counted.append(1) or vectors())  # type: ignore[func-returns-value]
        lm.logprobs(build(tiny.groups()))
        assert len(counted) == 1
        assert lm.root_tokens == 4
        assert len(counted) == 1


def test_every_forward_pass_has_a_graph_of_its_own() -> None:
    lm = tiny.lm("llama")
    groups = tiny.groups()
    with MLP.attach(lm, 0) as attached:
        own = attached.parameters()
        first = -lm.logprobs(build(groups[:1])).sum()
        second = -lm.logprobs(build(groups[1:])).sum()
        both = gradients(-lm.logprobs(build(groups)).sum(), own)
        first.backward()  # type: ignore[no-untyped-call]
        second.backward()  # type: ignore[no-untyped-call]
        for name, parameter in own.items():
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, both[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tokens_per_tree", [1, 4096])
def test_training_does_not_depend_on_how_a_step_is_cut_into_trees(
    tokens_per_tree: int, trained_lm: LM, eight: list[Example]
) -> None:
    def vectors(tokens: int) -> torch.Tensor:
        plan = Plan(learning_rate=1e-3, examples=16, batch_size=8, tokens_per_tree=tokens)
        job = Job(
            lm=trained_lm,
            objective=SFT(),
            frame=Frame(),
            train=eight,
            dev=eight,
            metric=ExactMatch(),
            plan=plan,
            seed=0,
            max_new_tokens=2,
        )
        with MLP.attach(trained_lm, 0) as attached:
            assert train(job, attached).steps == 2
            peft = attached.to_peft()
        assert peft is not None
        return peft.tensors["prompt_embeddings"]

    torch.testing.assert_close(vectors(tokens_per_tree), vectors(60), rtol=1e-3, atol=1e-5)


def test_its_values_are_the_same_in_training_and_evaluation() -> None:
    lm = tiny.lm("llama")
    lm.amp = torch.bfloat16
    with PTuning(num_virtual_tokens=4).attach(lm, 0):
        assert lm.root is not None
        wanted = lm.root.vectors()
        with lm.mixed_precision():
            assert torch.equal(lm.root.vectors(), wanted)


def test_the_number_of_parameters_is_that_of_the_formula() -> None:
    lm, n, d, h = tiny.lm("llama"), 4, tiny.WIDTH, 8
    lstm = PTuning(num_virtual_tokens=n, encoder_hidden_size=h, encoder_num_layers=2)
    mlp = PTuning(
        num_virtual_tokens=n, encoder_hidden_size=h, encoder_reparameterization_type="MLP"
    )
    gates = [2 * 4 * h * (i + h + 2) for i in (d, 2 * h)]  # both directions, two biases a gate
    head = 2 * h * (2 * h + 1) + d * (2 * h + 1)
    wanted = {
        lstm: n * d + sum(gates) + head,
        mlp: n * d + h * (d + 1) + h * (h + 1) + d * (h + 1),
    }
    for delta, count in wanted.items():
        with delta.attach(lm, 0) as attached:
            assert sum(p.numel() for p in attached.parameters().values()) == count


def test_layers_of_an_lstm_are_refused_for_the_mlp() -> None:
    delta = PTuning(encoder_reparameterization_type="MLP", encoder_num_layers=3)
    with pytest.raises(UsageError, match="three linear maps"):
        delta.attach(tiny.lm("llama"), 0)


def test_drawing_the_encoder_leaves_the_global_generator_alone() -> None:
    lm = tiny.lm("llama")
    before = torch.get_rng_state()
    with MLP.attach(lm, 3):
        assert torch.equal(torch.get_rng_state(), before)
