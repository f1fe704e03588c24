"""Predictions: the label trie equals naive scoring, and no answer depends on its neighbors."""

import random
from collections.abc import Sequence

import pytest
import torch

from savile.deltas.base import Delta
from savile.deltas.lora import LoRA
from savile.deltas.prompt_tuning import PromptTuning
from savile.lm import generate
from savile.lm.layout import Layout
from savile.lm.local import Local
from savile.lm.model import LM
from savile.lm.tree import Tree
from savile.predict import answer_limit, closed, latency, predict, single_requests
from savile.prompts.base import Frame
from savile.types import Example
from tests import tiny
from tests.contracts.tree_gate import eager, shake

EXAMPLES = [
    Example(id=str(i), input="is it so? " + "really " * (i % 4) + str(i), output="no")
    for i in range(9)
]
BANKING = tuple(
    f"{verb} the {noun} {i}"
    for i, (verb, noun) in enumerate(
        (v, n)
        for v in ("pay", "stop", "find", "raise", "block", "open", "ask")
        for n in (
            "card",
            "cash",
            "code",
            "loan",
            "fee",
            "pin",
            "app",
            "bank",
            "atm",
            "rate",
            "bill",
        )
    )
)
SETS: dict[str, tuple[str, ...]] = {
    "prefixes": ("no", "not sure", "not", "yes", "yes and no", "n"),
    "one": ("only",),
    "one, long": ("the only label there is, and it is a long one",),
    "two": ("yes", "no"),
    "77": BANKING,
    "accents": ("naïve", "naiv", "日本", "日本語", ""),
}


def naive(lm: LM, frame: Frame, example: Example) -> list[float]:
    """Return each label's log-likelihood, one plain sequence at a time."""
    prompt = lm.encode_prompt(frame.messages(example))
    found = []
    with eager(lm), torch.no_grad():
        for label in frame.labels:
            completion = lm.encode_completion(label)
            vectors = lm.sites.embedding(torch.tensor([[*prompt, *completion]]))
            if lm.root is not None:
                vectors = torch.cat([lm.root.vectors()[None], vectors], 1)
            logits = lm.model(inputs_embeds=vectors).logits[0, -len(completion) - 1 : -1]
            rows = logits.log_softmax(-1)[range(len(completion)), completion]
            found.append(float(rows.sum()))
    return found


def assert_best(lm: LM, frame: Frame, examples: Sequence[Example]) -> None:
    for prediction, example in zip(predict(Local(lm), frame, examples), examples, strict=True):
        scores = naive(lm, frame, example)
        chosen = scores[frame.labels.index(prediction.text)]
        assert chosen >= max(scores) - 1e-4
        assert prediction.answer == prediction.text
        assert prediction.id == example.id
        label = lm.encode_completion(prediction.text)
        assert prediction.completion_tokens == len(label)


@pytest.mark.parametrize("labels", sorted(SETS))
@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2", "bloom"])
def test_the_likeliest_label_is_chosen(family: str, labels: str) -> None:
    rows = EXAMPLES[:1] if labels == "77" else EXAMPLES[:3]
    assert_best(tiny.lm(family), Frame(instruction="Say.", labels=SETS[labels]), rows)


@pytest.mark.parametrize("delta", [LoRA(r=2), PromptTuning(num_virtual_tokens=4)])
def test_labels_are_scored_under_a_delta(delta: Delta) -> None:
    lm = tiny.lm("mistral")
    with delta.attach(lm, 0) as attached:
        shake(attached, 0.1)
        assert_best(lm, Frame(labels=SETS["prefixes"]), EXAMPLES[:3])
        assert_best(lm, Frame(labels=BANKING[:20]), EXAMPLES[:2])


@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize(
    "frame",
    [
        Frame(labels=SETS["prefixes"]),
        Frame(labels=BANKING[:30]),
        Frame(instruction="Go on."),
        Frame(reasoning=True),
    ],
)
def test_a_prediction_depends_on_no_neighbor(frame: Frame, size: int) -> None:
    lm = tiny.lm("qwen3")
    wanted = predict(Local(lm), frame, EXAMPLES, max_new_tokens=6)
    order = random.Random(size).sample(EXAMPLES, len(EXAMPLES))
    found = {}
    for start in range(0, len(order), size):
        for made in predict(Local(lm), frame, order[start : start + size], max_new_tokens=6):
            found[made.id] = made
    assert [found[example.id] for example in EXAMPLES] == wanted


def test_a_trained_base_answers(trained_lm: LM) -> None:
    asked = [
        Example(id=q, input=q, output=a) for q, a in (("a 0", "A"), ("d 7", "r"), ("c 2", "c"))
    ]
    for labels in ((), ("A", "r", "c"), tuple("ABCDEFGHabcdefghKLMNOPQRklmnopqr")):
        made = predict(Local(trained_lm), Frame(labels=labels), asked, max_new_tokens=5)
        assert [p.answer for p in made] == [e.output for e in asked]
        assert [p.prompt_tokens for p in made] == [
            len(trained_lm.encode_prompt(Frame().messages(e))) for e in asked
        ]


def test_soft_tokens_are_counted() -> None:
    lm = tiny.lm("llama")
    frame = Frame(labels=("a", "b"))
    alone = predict(Local(lm), frame, EXAMPLES[:1])[0].prompt_tokens
    with PromptTuning(num_virtual_tokens=6).attach(lm, 0):
        assert (
            predict(Local(lm), Frame(labels=("a", "b")), EXAMPLES[:1])[0].prompt_tokens == alone + 6
        )


def test_a_long_neighbor_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("savile.lm.generate.end_tokens", lambda lm: frozenset())
    lm = tiny.lm("llama")
    short = EXAMPLES[0]
    long = Example(id="long", input="x" * (lm.context - 45), output="")
    limit = 40
    room = lm.context - len(lm.encode_prompt(Frame().messages(long)))
    assert 1 <= room < limit
    alone = predict(Local(lm), Frame(), [short], max_new_tokens=limit)[0]
    beside = predict(Local(lm), Frame(), [short, long], max_new_tokens=limit)
    assert beside[0] == alone
    assert alone.completion_tokens > room
    assert beside[1].completion_tokens <= room


def test_the_frame_decides_how_answers_are_found() -> None:
    assert closed(Frame(labels=("a",)))
    assert not closed(Frame(labels=("a",), reasoning=True))
    assert not closed(Frame())


def test_rows_are_reported_as_they_finish() -> None:
    seen: list[int] = []
    predict(Local(tiny.lm("llama")), Frame(labels=("a", "b")), EXAMPLES, on_rows=seen.append)
    assert sum(seen) == len(EXAMPLES)


def test_no_question_no_prediction() -> None:
    assert predict(Local(tiny.lm("llama")), Frame(labels=("a", "b")), []) == []
    assert predict(Local(tiny.lm("llama")), Frame(), []) == []


def test_the_limit_follows_the_longest_wanted_answer() -> None:
    lm = tiny.lm("llama")
    rows = [Example(id="1", input="q", output="x" * 39), Example(id="2", input="q", output="y")]
    assert answer_limit(Local(lm), Frame(), rows) == 40 + 10 + 8
    assert answer_limit(Local(lm), Frame(), []) > 0


def test_latency_is_of_single_requests() -> None:
    seconds = single_requests(Local(tiny.lm("llama")), Frame(labels=("a", "b")), EXAMPLES[:5])
    assert len(seconds) == 5
    p50, p95 = latency(seconds)
    assert 0 < p50 <= p95


@pytest.mark.parametrize("labels", sorted(SETS))
def test_broken_weights_raise_nothing(labels: str) -> None:
    lm = tiny.lm("llama")
    with torch.no_grad():
        lm.model.get_output_embeddings().weight.fill_(float("nan"))
    made = predict(Local(lm), Frame(labels=SETS[labels]), EXAMPLES[:2])
    assert all(p.answer in SETS[labels] for p in made)


def test_what_no_prompt_shares_counts_against_the_tree() -> None:
    alike = [[number, *range(3000)] for number in range(4)]
    assert [len(rows) for rows in generate.rows_of_trees(alike)] == [1, 1, 1, 1]
    shared = [[*range(3000), number] for number in range(4)]
    assert [len(rows) for rows in generate.rows_of_trees(shared)] == [4]


def test_steps_that_no_row_shows_get_room() -> None:
    lm = tiny.lm("llama")
    rows = [Example(id="1", input="a", output="b")]
    frame = Frame(reasoning=True)
    assert answer_limit(Local(lm), frame, rows) >= 256
    shown = [Example(id="1", input="a", output="b", rationale="because")]
    assert answer_limit(Local(lm), frame, shown) < 256


RAN_OUT = (
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: not enough memory"),
)
ASKED = {
    "written": Frame(),
    "drawn": Frame(samples=3, temperature=1.0, seed=7),
    "few labels": Frame(labels=("yes", "no")),
    "many labels": Frame(labels=BANKING),
}


class Room:
    """Memory for trees of so many prompts, samples counted."""

    def __init__(self, prompts: int, error: Exception) -> None:
        self.prompts, self.error, self.plan = prompts, error, LM.plan
        self.trees: list[int] = []

    def __call__(self, lm: LM, tree: Tree) -> Layout:
        self.trees.append(len(tree.ends))
        if len(tree.ends) > self.prompts:
            raise self.error
        return self.plan(lm, tree)


@pytest.mark.parametrize("error", RAN_OUT, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("way", ASKED)
def test_what_runs_out_of_memory_is_answered_in_halves_with_the_same_answers(
    way: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, frame = Local(tiny.lm("llama")), ASKED[way]
    wanted = predict(base, frame, EXAMPLES, max_new_tokens=4)
    assert base.tally() == {}
    room = Room(2 * frame.samples, error)
    monkeypatch.setattr(LM, "plan", lambda lm, tree: room(lm, tree))
    done: list[int] = []
    found = predict(base, frame, EXAMPLES, max_new_tokens=4, on_rows=done.append)
    assert found == wanted
    assert done == [2, 2, 2, 2, 1]
    assert sum(count > room.prompts for count in room.trees) == 2  # of nine rows, and of four
    assert base.tally() == {"rows_at_once": 2}
    assert base.tally() == {}


@pytest.mark.parametrize(
    ("prompts", "error"), [(0, MemoryError()), (1, RuntimeError("shapes cannot be multiplied"))]
)
def test_one_row_for_which_memory_runs_out_and_other_errors_are_raised(
    prompts: int, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, room = Local(tiny.lm("llama")), Room(prompts, error)
    monkeypatch.setattr(LM, "plan", lambda lm, tree: room(lm, tree))
    with pytest.raises(type(error)):
        predict(base, Frame(), EXAMPLES, max_new_tokens=4)
    assert room.trees[-1] == (1 if isinstance(error, MemoryError) else 9)
