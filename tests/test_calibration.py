"""Calibrated and length-normalized labels: equal to naive scoring, and a planted bias is undone."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import savile
from savile.deltas.base import Delta
from savile.deltas.lora import LoRA
from savile.deltas.prompt_tuning import PromptTuning
from savile.ladder.fits import does_not_fit
from savile.lm.choose import Chooser
from savile.lm.local import Local
from savile.lm.model import LM
from savile.lm.trie import Rule, Trie
from savile.predict import asked_of, predict
from savile.prompts.base import Frame
from savile.prompts.base_calibration import Calibration
from savile.retrieval import Retriever
from savile.spec import ladder as grammar
from savile.types import Example, Message
from tests import small_case, tiny
from tests.contracts.tree_gate import eager, shake
from tests.gates import Gate

CONTEXTUAL = Calibration(inputs=("N/A", "[MASK]", ""), examples=True)
DOMAIN = Calibration(inputs=("Answer:",), examples=False)
LONG = tuple(f"{verb} the {noun}" for verb in ("pay", "stop", "find") for noun in "abcdefgh")
FRAME = Frame(
    instruction="Say.",
    demonstrations=(Example(id="d", input="so?", output="pay the a"),),
    labels=("no", "not sure", "not", "yes", "yes and no", "n"),
)
ROWS = [Example(id=str(i), input=f"is it so? {'really ' * i}{i}", output="no") for i in range(4)]
RETRIEVED = Retriever(pool=tuple(Example(id=w, input=w, output="no") for w in ("is", "so")), k=1)
WAYS = [(CONTEXTUAL, False), (DOMAIN, False), (None, True), (CONTEXTUAL, True), (DOMAIN, True)]


def naive(lm: LM, frame: Frame, chat: Sequence[Message]) -> Tensor:
    """Return log p of each label and its end after a chat, one plain sequence at a time [C]."""
    prompt, found = lm.encode_prompt(chat), []
    with eager(lm), torch.no_grad():
        for label in frame.labels:
            completion = lm.encode_completion(label)
            vectors = lm.sites.embedding(torch.tensor([[*prompt, *completion]]))
            if lm.root is not None:
                vectors = torch.cat([lm.root.vectors()[None], vectors], 1)
            logits = lm.model(inputs_embeds=vectors).logits[0, -len(completion) - 1 : -1]
            found.append(logits.log_softmax(-1)[range(len(completion)), completion].sum())
    return torch.stack(found)


def wanted(lm: LM, frame: Frame, example: Example) -> Tensor:
    """Return the papers' scores of the labels, written as the papers write them [C]."""
    own = frame.messages(example)
    scores = naive(lm, frame, own)
    if frame.calibration is not None:
        head = own[:-1] if frame.calibration.examples else own[:1]
        empty = [
            naive(lm, frame, [*head, Message(role="user", content=text)]).double().exp()
            for text in frame.calibration.inputs
        ]
        scores = scores - torch.stack(empty).mean(0).log()
    if frame.length_normalized:
        scores = scores / torch.tensor([len(lm.encode_completion(one)) for one in frame.labels])
    return scores


def assert_best(lm: LM, frame: Frame) -> float:
    """Assert that the highest of the naive scores is answered, up to their rounding; return how far
    an answer is below it."""
    rows, gap = ROWS[::3], 0.0
    for prediction, example in zip(predict(Local(lm), frame, rows), rows, strict=True):
        scores = wanted(lm, frame, example)
        chosen = scores[frame.labels.index(prediction.text)]
        assert chosen >= scores.max() - 1e-4 * max(1.0, float(scores.abs().max()))
        gap = max(gap, float(scores.max() - chosen))
    return gap


@pytest.mark.parametrize(
    ("family", "labels"), [("llama", FRAME.labels), ("mistral", LONG), ("bloom", FRAME.labels)]
)
@pytest.mark.parametrize(("calibration", "normalized"), WAYS)
def test_the_naive_argmax_is_answered(
    family: str,
    labels: tuple[str, ...],
    calibration: Calibration | None,
    normalized: bool,
    gate: Gate,
) -> None:
    frame = replace(FRAME, labels=labels, calibration=calibration, length_normalized=normalized)
    gap = assert_best(tiny.lm(family), frame)
    used = {
        "contextual_calibration": calibration is CONTEXTUAL,
        "domain_calibration": calibration is DOMAIN,
        "length_normalized": normalized,
    }
    for name in (name for name, own in used.items() if own):
        gate(name, "parity", gap, "the formula, best label")


@pytest.mark.parametrize("calibration", [CONTEXTUAL, DOMAIN])
def test_examples_of_the_question_itself_are_the_context(calibration: Calibration) -> None:
    found = replace(FRAME, demonstrations=(), retriever=RETRIEVED, calibration=calibration)
    assert len({found.messages(row)[1].content for row in ROWS}) == 1
    assert_best(tiny.lm("llama"), found)


@pytest.mark.parametrize("delta", [LoRA(r=2), PromptTuning(num_virtual_tokens=4)])
def test_the_tuned_model_is_calibrated_by_itself(delta: Delta) -> None:
    lm = tiny.lm("mistral")
    base = Local(lm)
    frame = replace(FRAME, calibration=CONTEXTUAL)
    with delta.attach(lm, 0) as attached:
        assert_best(lm, frame)
        shake(attached, 0.1)
        assert_best(lm, frame)
    assert len(predict(base, frame, ROWS)) == len(ROWS)


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("spread", [0.0, 3.0, 40.0])
def test_the_search_finds_what_scoring_all_finds(per_token: bool, spread: float) -> None:
    lm = tiny.lm("qwen3")
    chooser = Chooser(lm, [lm.encode_completion(one) for one in LONG], per_token=per_token)
    draw = torch.Generator().manual_seed(1)
    biases = [(spread * torch.randn(len(LONG), generator=draw)).tolist() for _ in ROWS]
    prompts = [lm.encode_prompt(FRAME.messages(row)) for row in ROWS]
    assert chooser.searches
    assert chooser.best(prompts, biases) == chooser.scores(prompts, biases).argmax(-1).tolist()


def test_no_score_is_above_its_bound() -> None:
    choices = [[5, 9], [1, 2, 9], [5, 6, 7, 8, 9], [1, 2, 3, 9], [1, 4, 9]]
    trie = Trie(choices)
    biases = [[0.0] * 5, [4.0, -3.0, 2.0, 20.0, -20.0]]
    rule = Rule(trie, biases, [1 / len(choice) for choice in choices])
    for row in range(2):
        for node in range(len(trie)):
            under = np.arange(trie.low[node], trie.high[node])
            path = trie.tokens[trie.ancestors[node][: trie.depth[node] + 1]].tolist()
            assert [choices[n] for n in trie.order[under]] == sorted(
                choice for choice in choices if choice[: len(path)] == path
            )
            rows, nodes = np.full(len(under), row), np.full(len(under), node)
            for logprob in (0.0, -2.5, -30.0):
                bounds = rule.bounds(rows, nodes, np.full(len(under), logprob))
                for more in (0.0, 1.0):
                    scores = rule.scores(rows, under, np.full(len(under), logprob - more))
                    assert (scores <= bounds + 1e-12).all()


def test_a_planted_preference_for_one_label_is_undone() -> None:
    """The head of a random model is biased to one label: it answers nothing else, but calibrated
    mostly what it answers without the bias."""
    lm = tiny.lm("llama")
    frame = Frame(labels=("a", "b"), calibration=CONTEXTUAL)
    raw = replace(frame, calibration=None)
    rows = [Example(id=str(i), input=f"{i} or {i * 37 % 11}?", output="a") for i in range(60)]
    truth = [prediction.text for prediction in predict(Local(lm), frame, rows)]
    head = lm.sites.head
    assert isinstance(head, torch.nn.Linear)
    head.bias = torch.nn.Parameter(torch.zeros(head.out_features))
    with torch.no_grad():
        head.bias[lm.encode_completion("a")[0]] += 8.0
    biased, calibrated = (
        [prediction.text for prediction in predict(Local(lm), one, rows)] for one in (raw, frame)
    )
    assert set(biased) == {"a"}
    right = [a == b for a, b in zip(calibrated, truth, strict=True)]
    assert truth.count("a") < 30 < 50 < sum(right)


def test_samples_are_drawn_by_calibrated_scores() -> None:
    lm = tiny.lm("llama")
    frame = replace(FRAME, calibration=CONTEXTUAL, samples=64, temperature=1e-3, seed=1)
    greedy = predict(Local(lm), replace(frame, samples=1, temperature=0.0), ROWS)
    assert [one.text for one in predict(Local(lm), frame, ROWS)] == [one.text for one in greedy]
    assert [one.votes for one in predict(Local(lm), frame, ROWS)] == [1.0] * len(ROWS)


def test_content_free_prompts_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, trees = tiny.lm("llama"), []
    of_tree = LM.sequence_logprobs
    monkeypatch.setattr(
        LM, "sequence_logprobs", lambda self, tree: trees.append(tree) or of_tree(self, tree)
    )
    many = [replace(row, id=f"{n}{row.id}") for n in range(40) for row in ROWS]
    predict(Local(lm), replace(FRAME, labels=("a", "b")), many)
    without = len(trees)
    predict(Local(lm), replace(FRAME, labels=("a", "b"), calibration=CONTEXTUAL), many)
    assert without > 1
    assert len(trees) == 2 * without + 1


def test_free_text_asks_for_no_calibration() -> None:
    frame = Frame(reasoning=True, labels=("a",), calibration=DOMAIN, length_normalized=True)
    asked = asked_of(frame, 8)
    assert (asked.labels, asked.neutral, asked.length_normalized) == ((), (), False)


def test_a_premise_beyond_the_context_is_said() -> None:
    base = Local(tiny.lm("llama"))
    assert does_not_fit(base, FRAME, ROWS) is None
    long = Calibration(inputs=("word " * 60,), examples=False)
    assert "context is 256" in str(does_not_fit(base, replace(FRAME, calibration=long), ROWS))


LADDER = (
    "[zero_shot, zero_shot+contextual_calibration, {domain_calibration: {premise: 'So:'}}, "
    "{few_shot+contextual_calibration+length_normalized: {k: 2}}, "
    "{nearest_states+contextual_calibration: {k: 1}}, "
    "{lora+contextual_calibration: {learning_rate: 0.02}}, self_consistency+length_normalized, "
    "chain_of_thought+contextual_calibration, bootstrap+length_normalized, "
    "contextual_calibration+domain_calibration]"
)


def test_a_board_measures_them_and_says_why_others_cannot_run(tmp_path: Path) -> None:
    base = small_case.write_base(tmp_path / "base")
    run = savile.run(small_case.write_case(tmp_path / "case", base, ladder=LADDER), tmp_path / "r")
    rows = {row["technique"]: row for row in run.board if row["kind"] != "baseline"}
    reasons = {name: row["reason"] for name, row in rows.items() if row["status"] == "not_run"}
    assert reasons.keys() == {
        "chain_of_thought+contextual_calibration",
        "bootstrap+length_normalized",
        "contextual_calibration+domain_calibration",
    }
    assert "leave the steps out" in reasons["bootstrap+length_normalized"]
    assert "calibration" in reasons["contextual_calibration+domain_calibration"]
    assert all(row["status"] == "ok" for name, row in rows.items() if name not in reasons)
    again = run.technique("lora(learning_rate=0.02)+contextual_calibration").predict(["lost cup"])
    assert set(again) <= {"yes", "no"}


def test_a_base_without_likelihoods_has_a_reason() -> None:
    for name in ("contextual_calibration", "domain_calibration", "length_normalized"):
        (one,), faults = grammar.parse([name])
        assert not faults
        assert "not behind an API" in str(grammar.reason(one.needs, frozenset({"labels"})))
        assert "closed set" in str(grammar.reason(one.needs, frozenset({"weights"})))


class NoDouble(Tensor):
    """A tensor of a device that has no float64, as MPS."""

    def double(self, *given: object, **named: object) -> Tensor:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    def cpu(self, *given: object, **named: object) -> Tensor:
        return self.as_subclass(Tensor)


@pytest.mark.parametrize("labels", [FRAME.labels, LONG])
def test_labels_are_scored_on_a_device_without_float64(
    labels: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = replace(FRAME, labels=labels, demonstrations=(), calibration=DOMAIN)
    base, sums, logits = Local(tiny.lm("llama")), LM.sequence_logprobs, LM.logits
    wanted = predict(base, frame, ROWS)
    monkeypatch.setattr(LM, "sequence_logprobs", lambda *given: sums(*given).as_subclass(NoDouble))
    monkeypatch.setattr(LM, "logits", lambda *given: logits(*given).as_subclass(NoDouble))
    assert predict(base, frame, ROWS) == wanted
