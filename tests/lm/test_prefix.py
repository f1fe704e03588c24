"""Keys and values before every sequence: those of real tokens are those tokens, everywhere."""

import contextlib
import random
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor
from transformers import Lfm2Config, Lfm2ForCausalLM

from savile.lm.choose import SMALL_TRIE, Chooser
from savile.lm.generate import greedy
from savile.lm.model import LM, Root
from savile.lm.prefix import Prefix
from savile.lm.store import Store
from savile.lm.tree import KeysValues, Paths, build
from tests import tiny
from tests.contracts.tree_gate import eager
from tests.lm.test_generate import LENGTH, PROMPTS
from tests.lm.test_model import HARD

WORDS = [1, *range(90, 103)]  # more than the sliding windows of the tiny models see
EVERY = [*tiny.FAMILIES, *tiny.FALLBACK]


@contextlib.contextmanager
def behind(lm: LM, layers: Sequence[KeysValues]) -> Iterator[None]:
    lm.prefix = Prefix(layers[0][0].shape[1], lambda: layers)
    try:
        yield
    finally:
        lm.prefix = None


def noise(lm: LM, seed: int = 0) -> list[KeysValues]:
    """Return leaves that no token gives."""
    rng = torch.Generator().manual_seed(seed)
    shapes = [[x.shape for x in pair] for pair in lm.keys_and_values(WORDS)]
    made = [[torch.randn(s, generator=rng).requires_grad_() for s in pair] for pair in shapes]
    return [(keys, values) for keys, values in made]


def longer(groups: Sequence[Paths]) -> list[Paths]:
    return [Paths([*WORDS, *g.prompt], g.completions) for g in groups]


def close(got: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("case", sorted(set(HARD) - {"at the limit of the context"}))
@pytest.mark.parametrize("family", EVERY)
def test_keys_and_values_of_tokens_are_those_tokens(family: str, case: str) -> None:
    lm, groups = tiny.lm(family), HARD[case]
    wanted = lm.logprobs(build(longer(groups)))
    with behind(lm, lm.keys_and_values(WORDS)):
        close(lm.logprobs(build(groups)), wanted)
        with eager(lm):
            close(lm.logprobs(build(groups)), wanted)


@torch.no_grad()
@pytest.mark.parametrize("family", EVERY)
def test_virtual_tokens_stand_between_the_prefix_and_the_prompt(family: str) -> None:
    lm = tiny.lm(family)
    wanted = lm.logprobs(build(longer(tiny.groups())))
    vectors = lm.sites.embedding(torch.tensor(WORDS[4:]))
    lm.root = Root(len(vectors), lambda: vectors)
    with behind(lm, lm.keys_and_values(WORDS[:4])):
        assert lm.root_tokens == len(WORDS)
        close(lm.logprobs(build(tiny.groups())), wanted)


@pytest.mark.parametrize("case", ["deep branches", "no common start", "a single token"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_gradients_equal_those_of_a_filled_cache(family: str, case: str) -> None:
    lm = tiny.lm(family)
    layers = noise(lm)
    leaves = [x for pair in layers for x in pair]
    with behind(lm, layers):
        got = torch.autograd.grad(lm.logprobs(build(HARD[case])).sum(), leaves)
        with eager(lm):
            pairs = tiny.paths(HARD[case])
            alone = sum(lm.logprobs(build([Paths(p, [c])])).sum() for p, c in pairs)
            assert isinstance(alone, Tensor)
            wanted = torch.autograd.grad(alone, leaves)
    for ours, theirs in zip(got, wanted, strict=True):
        assert float(theirs.norm()) > 0
        assert float((ours - theirs).norm() / theirs.norm()) <= 1e-5


@pytest.mark.parametrize("family", EVERY)
def test_answers_are_those_after_the_tokens(family: str) -> None:
    lm = tiny.lm(family)
    wanted = greedy(lm, [[*WORDS, *prompt] for prompt in PROMPTS], LENGTH)
    with behind(lm, lm.keys_and_values(WORDS)):
        assert greedy(lm, PROMPTS, LENGTH) == wanted
        assert [greedy(lm, [prompt], LENGTH)[0] for prompt in PROMPTS] == wanted


@torch.no_grad()
def full(lm: LM, prompt: Sequence[int], answer: Sequence[int]) -> Tensor:
    """Return the logits before every token of an answer, from one pass over all of it."""
    tree = build([Paths([*prompt, *answer], [])])
    return lm.logits(tree, tree.parent[len(prompt) :])


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gpt2"])
def test_a_long_answer_of_a_ragged_batch_is_that_of_its_row_alone(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 steps with kept keys against one pass; the sliding window leaves the prefix behind."""
    lm = tiny.lm(family)
    lm.template.end = -1
    lm.tokenizer.eos_token_id = lm.model.generation_config.eos_token_id = None
    rng = random.Random(1)
    prompts = [[1, *(rng.randrange(20, 250) for _ in range(3 * n))] for n in range(8)]
    logits: list[Tensor] = []
    step = lm.step

    def watched(tokens: Tensor, store: Store) -> Tensor:
        logits.append(step(tokens, store))
        return logits[-1]

    monkeypatch.setattr(lm, "step", watched)
    with behind(lm, noise(lm)):
        together = greedy(lm, prompts, 100)
        seen = torch.stack(logits, 1)  # [8, 99, V]
        assert [len(answer) for answer in together] == [100] * 8
        assert together == [greedy(lm, [prompt], 100)[0] for prompt in prompts]
        for row, (prompt, answer) in enumerate(zip(prompts, together, strict=True)):
            wanted = full(lm, prompt, answer)
            torch.testing.assert_close(seen[row], wanted[1:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gpt2"])
def test_the_likeliest_choice_is_found_behind_a_prefix(family: str) -> None:
    lm, rng = tiny.lm(family), random.Random(3)
    choices = [[rng.randrange(20, 24) for _ in range(4)] + [n + 30, 4] for n in range(40)]
    prompts = [[1, 60], [1, 60, 61, 62], [1, 63], [1, *range(70, 85)]]
    with behind(lm, noise(lm)):
        chooser = Chooser(lm, choices)
        assert len(chooser.trie) > SMALL_TRIE
        with torch.no_grad():
            scores = lm.sequence_logprobs(build([Paths(p, choices) for p in prompts]))
        wanted = scores.view(len(prompts), -1).argmax(-1).tolist()
        assert chooser.best(prompts) == wanted
    assert Chooser(lm, choices).best(prompts) != wanted


def test_a_prefix_costs_no_tokens_and_takes_positions() -> None:
    lm, tree = tiny.lm("llama"), build(tiny.groups())
    layers = lm.keys_and_values(WORDS)
    lm.work.tokens = 0
    with behind(lm, layers):
        lm.logprobs(tree)
        assert lm.work.tokens == len(tree)
        n = len(WORDS)
        assert lm.plan(tree).depth.tolist() == [*range(n), *(tree.depth + n)]
    assert lm.plan(tree).prefix == ()


def test_layers_that_keep_a_state_give_no_keys_and_values() -> None:
    config = Lfm2Config(
        vocab_size=tiny.VOCABULARY,
        hidden_size=tiny.WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        layer_types=["conv", "full_attention"],
    )
    lm = LM(Lfm2ForCausalLM(config), tiny.tokenizer(), name="hybrid")
    assert [keys.shape for keys, _ in lm.keys_and_values(WORDS)] == [(2, len(WORDS), 8)]


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom"])
def test_a_prefix_in_float32_serves_a_base_in_bfloat16(family: str) -> None:
    short = LM(tiny.model(family).bfloat16(), tiny.tokenizer(), name="short")
    layers = [(k.float(), v.float()) for k, v in short.keys_and_values(WORDS)]
    with torch.no_grad(), behind(short, layers):
        got = short.logprobs(build(tiny.groups()))
    with torch.no_grad():
        wanted = short.logprobs(build(longer(tiny.groups())))
    assert float((got - wanted).abs().mean()) < 0.1


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom", "gptj"])
def test_gradients_flow_under_mixed_precision(family: str) -> None:
    lm = tiny.lm(family)
    layers = noise(lm)
    leaves = [x for pair in layers for x in pair]
    tree = build(tiny.groups())
    found = []
    for lm.amp in (None, torch.bfloat16):
        with behind(lm, layers), lm.mixed_precision():
            loss = -lm.logprobs(tree).mean()
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, leaves)]))
    assert found[1].dtype == torch.float32
    assert float(torch.cosine_similarity(found[0], found[1], 0)) > 0.98
