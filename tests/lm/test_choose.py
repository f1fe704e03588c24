"""The likeliest choice: the search finds what each choice computed alone gives."""

import random

import numpy as np
import pytest
import torch

from savile.deltas.base import Delta
from savile.deltas.lora import LoRA
from savile.deltas.prefix_tuning import PrefixTuning
from savile.deltas.prompt_tuning import PromptTuning
from savile.lm import choose
from savile.lm.choose import SMALL_TRIE, Chooser
from savile.lm.model import LM
from savile.lm.tree import Paths, build
from savile.lm.trie import Trie
from tests import tiny
from tests.contracts.tree_gate import eager, shake

DRAW = random.Random(3)
CHOICES = [[DRAW.randrange(20, 24) for _ in range(n % 4 + 1)] + [n + 30, 4] for n in range(60)]
STEM = [1, *range(90, 103)]
PROMPTS = [[*STEM, 60], [*STEM, 60, 61, 62], STEM, [*STEM, 63], [*STEM, *range(70, 85)]]
DELTAS: dict[str, Delta] = {
    "lora": LoRA(r=2),
    "prompt_tuning": PromptTuning(num_virtual_tokens=4),
    "prefix": PrefixTuning(num_virtual_tokens=4),
}


@torch.no_grad()
def alone(lm: LM) -> torch.Tensor:
    """Return the log-probability of each choice after each prompt from plain padded batches."""
    with eager(lm):
        rows = [lm.sequence_logprobs(build([Paths(prompt, CHOICES)])) for prompt in PROMPTS]
    return torch.stack(rows)


def assert_equal(lm: LM) -> None:
    chooser, wanted = Chooser(lm, CHOICES), alone(lm)
    zeros = [[0.0] * len(CHOICES)] * len(PROMPTS)
    torch.testing.assert_close(chooser.scores(PROMPTS, zeros), wanted, rtol=1e-5, atol=1e-4)
    assert chooser.best(PROMPTS) == wanted.argmax(-1).tolist()
    assert [chooser.best([prompt])[0] for prompt in PROMPTS] == wanted.argmax(-1).tolist()


@pytest.mark.parametrize("family", [*tiny.FAMILIES, *tiny.FALLBACK])
def test_the_best_choice_is_that_of_every_choice_computed_alone(family: str) -> None:
    lm = tiny.lm(family)
    assert Chooser(lm, CHOICES).searches == lm.uses_tree
    assert_equal(lm)


@pytest.mark.parametrize("name", sorted(DELTAS))
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_what_is_attached_takes_part(family: str, name: str) -> None:
    lm = tiny.lm(family)
    before = alone(lm)
    with DELTAS[name].attach(lm, 0) as attached:
        shake(attached, 0.5)
        assert float((alone(lm) - before).abs().max()) > 1e-2
        assert_equal(lm)


def test_passes_of_few_tokens_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny.lm("llama")
    wanted = alone(lm).argmax(-1).tolist()
    monkeypatch.setattr(choose, "STEP_LOGITS", 10 * tiny.VOCABULARY)
    assert_equal(lm)
    for width in (1, 3, 100):
        monkeypatch.setattr(choose, "FIRST_STEP", width)
        monkeypatch.setattr(choose, "FULL_PASS", 1)
        assert Chooser(lm, CHOICES).best(PROMPTS) == wanted


def test_a_model_that_knows_computes_a_few_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, wanted = tiny.lm("llama"), CHOICES[7]
    step, bias = lm.step, torch.zeros(tiny.VOCABULARY)
    bias[wanted] = 50.0
    monkeypatch.setattr(lm, "step", lambda tokens, store: step(tokens, store) + bias)
    chooser = Chooser(lm, CHOICES)
    lm.work.tokens = 0
    assert chooser.best([STEM]) == [7]
    assert lm.work.tokens - len(STEM) < len(chooser.trie) / 2


def test_the_first_of_equal_choices_wins() -> None:
    lm = tiny.lm("llama")
    lm.model.get_output_embeddings().get_parameter("weight").data.zero_()  # all tokens alike
    shortest = min(range(len(CHOICES)), key=lambda number: len(CHOICES[number]))
    assert sum(len(choice) == len(CHOICES[shortest]) for choice in CHOICES) > 10
    assert Chooser(lm, CHOICES).best(PROMPTS) == [shortest] * len(PROMPTS)


def test_the_trie_has_each_token_but_the_last_once() -> None:
    trie = Trie(CHOICES)
    paths = {tuple(choice[:n]) for choice in CHOICES for n in range(1, len(choice))}
    found = {
        tuple(trie.tokens[trie.ancestors[node][: trie.depth[node] + 1]].tolist())
        for node in range(len(trie))
    }
    assert len(trie) == len(paths) > SMALL_TRIE
    assert found == paths
    source, target = trie.choices_after(np.arange(-1, len(trie)))
    assert sorted(trie.order[target].tolist()) == list(range(len(CHOICES)))
    assert (trie.above[target] == source - 1).all()


def test_choices_of_one_token_need_no_node() -> None:
    trie = Trie([[7], [5], [9]])
    assert len(trie) == 0
    assert trie.order.tolist() == [1, 0, 2]
    assert trie.choices_after(np.asarray([-1])).target.tolist() == [0, 1, 2]
    lm = tiny.lm("llama")
    assert Chooser(lm, [[7], [5], [9]]).best([STEM]) == [
        int(lm.logits(build([Paths(STEM, [])]), np.asarray([len(STEM) - 1]))[0, [7, 5, 9]].argmax())
    ]
