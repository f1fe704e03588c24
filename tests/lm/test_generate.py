"""Greedy answers: batch = single runs = transformers' `generate`."""

import bisect
import contextlib
import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from savile.deltas.base import Delta
from savile.deltas.lora import LoRA
from savile.deltas.prompt_tuning import PromptTuning
from savile.lm import generate
from savile.lm.generate import drawn, end_tokens, greedy, likeliest, sample
from savile.lm.model import LM
from savile.lm.tree import Paths, build
from savile.prompts.base import Frame
from savile.types import Example
from tests import tiny
from tests.contracts.tree_gate import eager, shake

LENGTH = 9
STEM = [1, *range(20, 33)]
PROMPTS = [
    [*STEM, 40],
    [*STEM, 41, 42, 43, 44, 45],
    STEM,  # the beginning of all others
    [*STEM, 40],  # twice the same
    [*STEM, 41, 42],  # the beginning of another
    [*STEM, 50, 51, 52],
    [*STEM, 60, 40],
]
DELTAS: dict[str, Delta | None] = {
    "alone": None,
    "lora": LoRA(r=2),
    "prompt_tuning": PromptTuning(num_virtual_tokens=4),
}


def attach(lm: LM, name: str) -> contextlib.AbstractContextManager[object]:
    delta = DELTAS[name]
    if delta is None:
        return contextlib.nullcontext()
    attached = delta.attach(lm, 0)
    shake(attached, 0.1)
    return attached


def theirs(lm: LM, prompt: list[int]) -> list[int]:
    """Return transformers' own greedy answer, the end token left out."""
    with eager(lm), torch.no_grad():
        vectors = lm.sites.embedding(torch.tensor([prompt]))
        if lm.root is not None:
            vectors = torch.cat([lm.root.vectors()[None], vectors], 1)
        out = lm.model.generate(
            inputs_embeds=vectors,
            attention_mask=torch.ones(vectors.shape[:2], dtype=torch.long),
            do_sample=False,
            max_new_tokens=LENGTH,
            eos_token_id=sorted(end_tokens(lm)),
            pad_token_id=0,
        )[0].tolist()
    stops = [at for at, token in enumerate(out) if token in end_tokens(lm)]
    return out[: stops[0]] if stops else out


@pytest.mark.parametrize("name", sorted(DELTAS))
@pytest.mark.parametrize("family", [*tiny.FAMILIES, *tiny.FALLBACK])
def test_batches_equal_single_runs_and_transformers(family: str, name: str) -> None:
    lm = tiny.lm(family)
    with attach(lm, name):
        wanted = [theirs(lm, prompt) for prompt in PROMPTS]
        assert greedy(lm, PROMPTS, LENGTH) == wanted
        assert [greedy(lm, [prompt], LENGTH)[0] for prompt in PROMPTS] == wanted


@pytest.mark.parametrize("size", [1, 2, 7])
def test_batch_size_and_order_change_nothing(size: int) -> None:
    lm = tiny.lm("mistral")
    wanted = greedy(lm, PROMPTS, LENGTH)
    order = random.Random(size).sample(range(7), 7)
    found: dict[int, list[int]] = {}
    for start in range(0, 7, size):
        rows = order[start : start + size]
        answers = greedy(lm, [PROMPTS[row] for row in rows], LENGTH)
        found.update(zip(rows, answers, strict=True))
    assert [found[row] for row in range(7)] == wanted


def test_answers_end_at_their_end_token(trained_lm: LM) -> None:
    asked = ["a 0", "b 1", "c 2"]
    prompts = [
        trained_lm.encode_prompt(Frame().messages(Example(id=q, input=q, output=""))) for q in asked
    ]
    answers = [trained_lm.template.decode(ids) for ids in greedy(trained_lm, prompts, 30)]
    assert answers == ["A", "L", "c"]


def test_nothing_asked_nothing_answered() -> None:
    lm = tiny.lm("llama")
    assert greedy(lm, [], 5) == []
    assert greedy(lm, [[1, 20]], 0) == [[]]


def test_the_end_tokens_are_those_of_template_tokenizer_and_model() -> None:
    lm = tiny.lm("llama")
    assert end_tokens(lm) == {2, 4}
    assert lm.model.generation_config is not None
    lm.model.generation_config.eos_token_id = [2, 9]
    assert end_tokens(lm) == {2, 4, 9}


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom"])
def test_a_sample_does_not_depend_on_its_neighbors(family: str) -> None:
    lm = tiny.lm(family)
    seeds = list(range(len(PROMPTS)))
    together = sample(lm, PROMPTS, LENGTH, seeds=seeds)
    alone = [sample(lm, [p], LENGTH, seeds=[s])[0] for p, s in zip(PROMPTS, seeds, strict=True)]
    assert together == alone
    assert sample(lm, PROMPTS, LENGTH, seeds=[s + 1 for s in seeds]) != together


def test_samples_follow_the_model_s_odds() -> None:
    lm, n = tiny.lm("llama"), 3000
    tree = build([Paths(PROMPTS[0], [])])
    with torch.no_grad():
        odds = (lm.logits(tree, tree.ends)[0].double() / 2).softmax(-1)
    tokens = sample(lm, [PROMPTS[0]] * n, 1, seeds=range(n), temperature=2.0)
    found = torch.bincount(torch.tensor([ids[0] for ids in tokens]), minlength=len(odds)) / n
    assert float((found - odds).abs().max()) < 4 * (0.25 / n) ** 0.5


def test_the_nucleus_leaves_the_tail_out() -> None:
    lm = tiny.lm("llama")
    tree = build([Paths(PROMPTS[0], [])])
    with torch.no_grad():
        odds, tokens = lm.logits(tree, tree.ends)[0].softmax(-1).sort(descending=True)
    inside = int((odds.cumsum(-1) < 0.5).sum()) + 1
    found = sample(lm, [PROMPTS[0]] * 500, 1, seeds=range(500), top_p=0.5)
    assert {ids[0] for ids in found} <= set(tokens[:inside].tolist())
    (likeliest,) = sample(lm, [PROMPTS[1]], LENGTH, seeds=[3], top_p=1e-9)
    (best,) = greedy(lm, [PROMPTS[1]], LENGTH)
    assert likeliest[: len(best)] == best


@pytest.mark.parametrize("top_p", [1.0, 0.6, 1e-9])
@pytest.mark.parametrize("spread", [0.0, 0.3, 4.0])
def test_the_one_drawn_is_the_one_of_its_rank_and_the_first_of_its_equals(
    spread: float, top_p: float
) -> None:
    rng = torch.Generator().manual_seed(5)
    logits = (spread * torch.randn(40, 90, generator=rng)).bfloat16().float()  # many are equal
    logits[:, 7] = float("-inf")
    chances = torch.rand(40, generator=rng).tolist()
    wanted = []
    for row, chance in zip((logits.double() / 0.7).softmax(-1).tolist(), chances, strict=True):
        ranked = sorted(range(90), key=lambda token: -row[token])
        kept = [n for n in range(90) if sum(row[token] for token in ranked[:n]) < top_p]
        ends = list(itertools.accumulate(row[ranked[n]] for n in kept))
        wanted.append(ranked[bisect.bisect_right(ends, chance * ends[-1])])
    assert drawn(logits, chances, temperature=0.7, top_p=top_p) == wanted


def test_logits_that_are_no_numbers_draw_some_token() -> None:
    assert len(drawn(torch.full((2, 5), float("nan")), [0.1, 0.9], temperature=1.0)) == 2


def test_an_ended_sample_keeps_its_end_and_nothing_after() -> None:
    lm = tiny.lm("llama")
    stops = end_tokens(lm)
    drawn = sample(lm, [PROMPTS[0]] * 400, 30, seeds=range(400), temperature=3.0)
    ended = [ids for ids in drawn if ids[-1] in stops]
    assert ended
    assert all(token not in stops for ids in drawn for token in ids[:-1])
    assert all(len(ids) == 30 for ids in drawn if ids[-1] not in stops)


def test_a_sample_ends_with_the_context() -> None:
    lm = tiny.lm("gpt2")
    prompts = [[1, *[20] * (lm.context - n)] for n in (1, 3, 30)]
    drawn = sample(lm, prompts, 20, seeds=[3, 4, 5])
    assert len(drawn[0]) == 1
    assert 1 <= len(drawn[1]) <= 3
    room = [lm.context - len(prompt) for prompt in prompts]
    assert all(len(ids) <= max(own, 1) for ids, own in zip(drawn, room, strict=True))


def test_many_samples_go_into_trees_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, sizes = tiny.lm("llama"), []
    plain = generate.generate

    def watched(lm: LM, prompts: Sequence[Sequence[int]], *rest: Any) -> list[list[int]]:
        sizes.append(len(prompts))
        return plain(lm, prompts, *rest)

    monkeypatch.setattr(generate, "generate", watched)
    sample(lm, [PROMPTS[n % len(PROMPTS)] for n in range(150)], 2, seeds=range(150))
    assert sum(sizes) == 150
    assert max(sizes) <= generate.ROWS_PER_TREE


def test_the_likeliest_of_equals_is_the_first() -> None:
    logits = torch.tensor([[0.0, 3.0, 3.0, -float("inf")], [2.0, 2.0, 1.0, 2.0]])
    assert likeliest(logits) == [1, 0] == likeliest(logits.double())
