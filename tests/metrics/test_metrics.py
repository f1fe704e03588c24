"""Equality with scikit-learn, sacrebleu and rouge-score over random answers; rules all metrics
share."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sklearn.metrics import accuracy_score, f1_score

from savile import registry
from savile.metrics.accuracy import Accuracy
from savile.metrics.base import Metric
from savile.metrics.bleu import Bleu
from savile.metrics.exact_match import ExactMatch
from savile.metrics.macro_f1 import MacroF1
from savile.metrics.rouge_l import RougeL
from savile.metrics.token_f1 import TokenF1

LABELS = ("billing", "shipping", "returns", "praise", "never seen")
WORDS = [
    "the",
    "a",
    "cat",
    "sat",
    "on",
    "mat,",
    "dog!",
    "1,200",
    "miles.",
    "(today)",
    "e-mail",
    "U.S.",
]
Answers = list[str | None]
References = list[tuple[str, ...]]


def label_rows(rng: random.Random, n: int) -> tuple[Answers, References]:
    truth = [rng.choice(LABELS[:4]) for _ in range(n)]
    answers: Answers = [t if rng.random() < 0.6 else rng.choice([*LABELS, None]) for t in truth]
    return answers, [(t,) for t in truth]


def text_rows(rng: random.Random, n: int, references: int = 3) -> tuple[Answers, References]:
    def sentence(low: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(low, 14)))

    wanted = [tuple(sentence(1) for _ in range(rng.randint(1, references))) for _ in range(n)]
    answers: Answers = []
    for accepted in wanted:
        kept = [w if rng.random() < 0.7 else rng.choice(WORDS) for w in accepted[0].split()]
        answers.append(rng.choice([" ".join(kept), " ".join(kept), sentence(0), None]))
    return answers, wanted


def make(name: str) -> Metric:
    cls = registry.load("metrics", name)
    metric: Metric = cls(pattern=r"(\w+)\W*$") if name == "regex" else cls()
    return metric


@pytest.mark.parametrize("seed", range(20))
def test_accuracy_equals_scikit_learn(seed: int) -> None:
    answers, references = label_rows(random.Random(seed), 60)
    expected = accuracy_score([r[0] for r in references], [a or "" for a in answers])
    assert Accuracy().score(answers, references, LABELS) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_macro_f1_equals_scikit_learn(seed: int) -> None:
    answers, references = label_rows(random.Random(seed), 5 + 10 * seed)
    truth = [r[0] for r in references]
    expected = f1_score(
        truth,
        [a or "" for a in answers],
        labels=sorted(set(truth)),
        average="macro",
        zero_division=0,
    )
    assert MacroF1().score(answers, references, LABELS) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    ("tokenize", "lowercase"), [("13a", False), ("intl", True), ("char", False)]
)
def test_bleu_equals_sacrebleu(seed: int, tokenize: str, lowercase: bool) -> None:
    answers, references = text_rows(random.Random(seed), 1 + seed)
    metric = Bleu(tokenize=tokenize, lowercase=lowercase)  # type: ignore[arg-type]
    width = max(map(len, references))
    streams = [[r[i] if i < len(r) else None for r in references] for i in range(width)]
    scorer = BLEU(tokenize=tokenize, lowercase=lowercase, force=True)
    expected = scorer.corpus_score([a or "" for a in answers], streams).score
    assert metric.score(answers, references, ()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("answers", [[""], [None], ["cat"], ["zebra zebra zebra zebra"]])
def test_bleu_of_hopeless_answers_equals_sacrebleu(answers: Answers) -> None:
    expected = (
        BLEU(force=True).corpus_score([a or "" for a in answers], [["the cat sat on it"]]).score
    )
    assert Bleu().score(answers, [["the cat sat on it"]], ()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("stemmer", [False, True])
def test_rouge_l_equals_rouge_score(seed: int, stemmer: bool) -> None:
    answers, references = text_rows(random.Random(seed), 20)
    scorer = RougeScorer(["rougeL"], use_stemmer=stemmer)
    expected = np.mean(
        [
            0.0 if a is None else max(scorer.score(r, a)["rougeL"].fmeasure for r in accepted)
            for a, accepted in zip(answers, references, strict=True)
        ]
    )
    found = RougeL(stemmer=stemmer).score(answers, references, ())
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("answer", "references", "expected"),
    [
        ("The cat!", ["a cat"], 1.0),
        ("cat sat", ["cat"], 2 / 3),
        ("cat sat", ["dog", "sat cat"], 1.0),
        ("the", ["a"], 1.0),
        ("the", ["cat"], 0.0),
        ("cat cat", ["cat"], 2 / 3),
        (None, ["cat"], 0.0),
    ],
)
def test_token_f1_is_squads(answer: str | None, references: Sequence[str], expected: float) -> None:
    assert TokenF1().score([answer], [references], ()) == pytest.approx(expected)


def test_exact_match_ignores_outer_space_only() -> None:
    references = [["Yes"], ["Yes"], ["Yes", "yes"], ["Yes"]]
    assert ExactMatch().score([" Yes\n", "yes", "yes", None], references, ()) == 0.5


def test_macro_f1_leaves_out_labels_without_references_so_that_techniques_compare() -> None:
    references = [("a",), ("b",)]
    assert MacroF1().score(["a", "c"], references, ("a", "b", "c")) == 0.5
    assert MacroF1().score(["a", None], references, ("a", "b", "c")) == 0.5


@pytest.mark.parametrize("name", registry.parts("metrics"))
def test_sums_of_parts_score_like_the_whole_in_any_order(name: str) -> None:
    metric = make(name)
    rows = label_rows if "labels" in metric.needs else text_rows
    answers, references = rows(random.Random(3), 40)
    whole = metric.score(answers, references, LABELS)
    statistics = metric.statistics(answers, references, LABELS)
    order = np.random.default_rng(0).permutation(len(answers))
    again = metric.statistics([answers[i] for i in order], [references[i] for i in order], LABELS)
    assert statistics.dtype == np.float64
    assert statistics.shape[0] == 40
    assert np.array_equal(again, statistics[order])
    parts = statistics[:7].sum(0) + statistics[7:].sum(0)
    assert float(metric.aggregate(parts)) == pytest.approx(whole, abs=1e-12)
    stacked = metric.aggregate(np.stack([parts, statistics.sum(0)])[:, None])
    assert stacked.shape == (2, 1)


@pytest.mark.parametrize("name", registry.parts("metrics"))
def test_no_answer_counts_as_wrong_and_a_perfect_answer_scores_full(name: str) -> None:
    metric = make(name)
    rows = label_rows if "labels" in metric.needs else text_rows
    _, references = rows(random.Random(4), 30)
    if name == "json_fields":
        references = [('{"a": 1}',)] * 30
    nothing: Answers = [None] * 30
    full = 100.0 if name == "bleu" else 1.0
    assert metric.score(nothing, references, LABELS) == 0.0
    perfect = [r[0] for r in references]
    assert metric.score(perfect, references, LABELS) == pytest.approx(full)


@pytest.mark.parametrize("name", registry.parts("metrics"))
def test_a_binary_metric_gives_rows_of_right_and_one(name: str) -> None:
    metric = make(name)
    if metric.binary:
        statistics = metric.statistics(
            ["cat", None, "3"], [["cat"], ["4"], ["3"]], ("cat", "3", "4")
        )
        assert statistics.tolist() == [[1, 1], [0, 1], [1, 1]]
