"""Log-probabilities: trees, plain batches and transformers give the same numbers."""

import pytest
import torch
from torch import Tensor

from savile.deltas.prompt_tuning import PromptTuning
from savile.lm.model import LM
from savile.lm.tree import Paths, build
from tests import tiny
from tests.contracts.tree_gate import eager

HARD = {
    "a prompt that is the prefix of another": [
        Paths([1, 30, 31], [[50, 4], [32, 33, 4]]),
        Paths([1, 30, 31, 32, 33, 34], [[51, 4]]),
    ],
    "identical prompts": [Paths([1, 30, 31], [[50, 4]]), Paths([1, 30, 31], [[50, 4], [51, 4]])],
    "a single sequence": [Paths([1, 30, 31], [[50, 51, 4]])],
    "a single token": [Paths([1], [[4]])],
    "completions that are prefixes of one another": [
        Paths([1, 30], [[50, 4], [50, 51, 4], [50], [50, 51, 52, 4]])
    ],
    "no common start": [Paths([30, 31], [[50, 4]]), Paths([40, 41, 42], [[51, 4], [52, 4]])],
    "a stem far longer than the window": [
        Paths([1, *range(20, 60)], [[60, 4], [61, 62, 4]]),
        Paths([1, *range(20, 59)], [[63, 4]]),
    ],
    "a branch far longer than the window": [
        Paths([1, 20, *range(30, 60)], [[60, 4], [61, 62, 4]]),
        Paths([1, 21, *range(30, 60)], [[60, 4], [61, 62, 4]]),
    ],
    "deep branches": [
        Paths([1, 20, 21], [[30, 31, 32], [30, 31, 33], [30, 34], [35, 36], [35, 37, 38]]),
        Paths([1, 20, 22], [[30, 31, 32], [30, 34]]),
    ],
    "at the limit of the context": [
        Paths([1, *[20 + i % 9 for i in range(tiny.CONTEXT - 3)]], [[50, 51], [52, 53]])
    ],
}


def alone(lm: LM, groups: list[Paths]) -> Tensor:
    """Return what transformers' model gives for each sequence by itself."""
    found = []
    with eager(lm), torch.no_grad():
        for prompt, completion in tiny.paths(groups):
            logits = lm.model(input_ids=torch.tensor([[*prompt, *completion]])).logits[0]
            rows = logits[-len(completion) - 1 : -1].log_softmax(-1)
            found.append(rows[range(len(completion)), completion])
    return torch.cat(found)


@pytest.mark.parametrize("case", sorted(HARD))
@pytest.mark.parametrize("family", [*tiny.FAMILIES, *tiny.FALLBACK])
def test_log_probabilities_equal_transformers(family: str, case: str) -> None:
    lm, groups = tiny.lm(family), HARD[case]
    with torch.no_grad():
        got = lm.logprobs(build(groups))
    torch.testing.assert_close(got, alone(lm, groups), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", sorted(set(HARD) - {"at the limit of the context"}))
@pytest.mark.parametrize("family", ["mistral", "gpt2", "bloom", "gptj"])
def test_a_soft_prompt_changes_trees_and_batches_alike(family: str, case: str) -> None:
    lm, groups = tiny.lm(family), HARD[case]
    with PromptTuning(num_virtual_tokens=7).attach(lm, 0), torch.no_grad():
        got = lm.logprobs(build(groups))
        with eager(lm):
            singles = [Paths(p, [c]) for p, c in tiny.paths(groups)]
            wanted = torch.cat([lm.logprobs(build([one])) for one in singles])
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_probe_accepts(family: str) -> None:
    lm = tiny.lm(family)
    assert lm.uses_tree
    assert lm.work.tokens == 0


@pytest.mark.parametrize("family", tiny.FALLBACK)
def test_a_model_that_ignores_the_attention_runs_on_plain_batches(family: str) -> None:
    assert not tiny.lm(family).uses_tree


def test_bfloat16_weights_are_close_to_float32() -> None:
    whole = tiny.lm("llama")
    short = LM(tiny.model("llama").bfloat16(), tiny.tokenizer(), name="short")
    assert short.uses_tree
    tree = build(tiny.groups())
    with torch.no_grad():
        got, wanted = short.logprobs(tree), whole.logprobs(tree)
    assert got.dtype == torch.float32
    assert float((got - wanted).abs().mean()) < 0.2


def test_parameters_are_counted_once() -> None:
    lm = tiny.lm("gpt2")  # input and output embeddings are tied
    total = sum(p.numel() for p in lm.model.parameters())
    assert lm.n_parameters == total
    assert lm.head_parameters == tiny.VOCABULARY * tiny.WIDTH
    assert 0 < lm.trunk_parameters < total
    assert lm.context == tiny.CONTEXT


def test_work_is_counted() -> None:
    lm, tree = tiny.lm("llama"), build(tiny.groups())
    lm.logprobs(tree)
    assert lm.work.tokens == len(tree)
    assert lm.work.predictions == len(set(tree.targets.source.tolist()))
    assert lm.work.separate_tokens == tree.separate_tokens


def test_a_model_without_its_plan_says_so() -> None:
    lm = tiny.lm("llama")
    with pytest.raises(ValueError, match="call the model through"):
        lm.model(input_ids=torch.tensor([[1, 2]]))
