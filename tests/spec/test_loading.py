"""The spec: YAML 1.2 scalars, overrides, the ladder's grammar, and no input that crashes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from savile import spec as task_spec
from savile.errors import UsageError
from savile.spec.document import parse
from savile.spec.loading import validate

BASE = "task: demo\ndata: {file: rows.csv}\n"
ALL = frozenset({"pairs", "labels", "system", "rationales"})


def load(tmp_path: Path, text: str, *overrides: str) -> task_spec.Spec:
    path = tmp_path / "task.yaml"
    path.write_text(text, encoding="utf-8")
    return task_spec.load(path, overrides)


def test_defaults(tmp_path: Path) -> None:
    spec = load(tmp_path, BASE)
    assert (spec.base, spec.ladder, spec.seed, spec.seeds) == ("embedded", "auto", 0, 3)
    assert spec.metric_name == "exact_match"
    assert spec.budget.search == 3
    assert (spec.path, spec.folder) == (tmp_path / "task.yaml", tmp_path)


def test_labels_stay_the_text_that_was_written(tmp_path: Path) -> None:
    spec = load(tmp_path, BASE + "prompt: {labels: [no, on, 010, 1:30, 1e5, TRUE, 'null']}\n")
    assert spec.prompt.labels == ("no", "on", "010", "1:30", "1e5", "TRUE", "null")
    assert spec.metric_name == "accuracy"


def test_numbers_may_be_written_as_text(tmp_path: Path) -> None:
    text = BASE + 'goal: "1e-3"\nbudget: {train_examples: 1e5, seconds: "60"}\n'
    spec = load(tmp_path, text)
    assert spec.goal == 1e-3
    assert spec.budget.train_examples == 100_000
    assert spec.budget.seconds == 60.0


def test_overrides_are_typed_and_checked_like_the_file(tmp_path: Path) -> None:
    spec = load(tmp_path, BASE, "data.leak=allow", "ladder=[zero_shot, lora]", "seeds=5")
    assert spec.data.leak == "allow"
    assert spec.ladder == ["zero_shot", "lora"]
    assert spec.seeds == 5


def test_resolved_is_json_and_reads_back(tmp_path: Path) -> None:
    text = BASE + "prompt: {labels: [a, b], system: be kind}\nmetric: macro_f1\nladder:\n"
    text += "  - one_shot\n  - {few_shot+lora: {k: 4, r: 16}}\n  - {lora: {learning_rate: 1e-3}}\n"
    spec = load(tmp_path, text)
    plain = json.loads(json.dumps(spec.resolved(), allow_nan=False))
    again, faults = validate(plain)
    assert not faults
    assert again is not None
    assert again.resolved() == spec.resolved()
    assert [c.name for c in again.candidates(ALL)] == [c.name for c in spec.candidates(ALL)]


def test_the_spec_is_frozen(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(tmp_path, BASE).seed = 3


def test_empty_keys_have_their_defaults(tmp_path: Path) -> None:
    text = BASE + "budget:\nprompt:\n  system:\n  trigger:\nmetric:\nladder:\nseeds:\n"
    assert load(tmp_path, text).resolved() == load(tmp_path, BASE).resolved()


def test_a_template_without_quotes_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Quote a text that holds braces"):
        load(tmp_path, "task: t\ndata: {file: a.csv, input: {subject}}\n")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("labels: [a, b]", "did you mean 'prompt.labels'?"),
        ("lerning_rate: 1", "{learning_rate: …}}]'?"),
        ("qqqq: 1", "expected task, description"),
    ],
)
def test_a_key_at_the_wrong_place_is_sent_home(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, BASE + line + "\n")
    assert words in str(caught.value)


def test_anchors_may_be_used(tmp_path: Path) -> None:
    text = BASE + "prompt: {labels: &l [a, b]}\nladder: [zero_shot, {few_shot: {k: 2}}]\n"
    assert load(tmp_path, text).prompt.labels == ("a", "b")


def test_problems_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, "seed: -1\n" + BASE + "goal: x\nbaze: y\n")
    numbers = [problem.where.split(":")[-2] for problem in caught.value.problems]
    assert numbers == ["1", "4", "5"]


def test_importing_the_spec_is_light() -> None:
    code = (
        "import sys, savile.spec, savile.data, savile.data.check, savile.spec.init\n"
        "heavy = {'torch', 'transformers', 'pyarrow', 'scipy', 'sklearn', 'numpy', 'tokenizers'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


KEYS = st.sampled_from(
    ["task", "data", "prompt", "ladder", "metric", "seed", "budget", "file", "labels", "lora", "k"]
)
LEAVES = st.one_of(st.none(), st.text(max_size=8), st.integers(), st.floats(), st.booleans(), KEYS)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(KEYS, st.text(max_size=5)), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(tree=st.dictionaries(KEYS, TREES, max_size=6))
def test_any_tree_is_a_spec_or_faults(tree: dict[str, Any]) -> None:
    spec, faults = validate(tree)
    assert (spec is None) == bool(faults)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"#%@`, \n\t\x00é0"), max_size=60))
def test_any_text_is_a_tree_or_a_usage_error(text: str) -> None:
    try:
        value = parse(text, "task.yaml").value
    except UsageError as error:
        value = str(error)
        said = error.problems[0].where
    else:
        said = "task.yaml"
    assert said.startswith("task.yaml")
    assert isinstance(value, (dict, list, str, type(None)))


@settings(max_examples=50, deadline=None)
@given(tree=st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=8), max_size=4))
def test_places_are_those_of_the_text(tree: dict[str, str]) -> None:
    text = "".join(f"{json.dumps(key)}: {json.dumps(value)}\n" for key, value in tree.items())
    document = parse(text, "f")
    assert (document.value or {}) == tree
    for number, key in enumerate(tree, start=1):
        assert document.keys[(key,)] == f"f:{number}:1"


def test_other_metrics_stand_beside_the_metric(tmp_path: Path) -> None:
    text = BASE + "metric: bleu\nalso_metrics: [rouge_l, {regex: {pattern: '[0-9]+'}}]\n"
    assert load(tmp_path, text).other_metrics == {"rouge_l": {}, "regex": {"pattern": "[0-9]+"}}
    assert load(tmp_path, BASE).other_metrics == {}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[bleuu]", "unknown metric 'bleuu'; did you mean 'bleu'?"),
        ("[bleu]", "metric 'bleu' is there already"),
        ("[rouge_l, rouge_l]", "metric 'rouge_l' is there already"),
        ("rouge_l", "'also_metrics' should be a list of metrics"),
        ("[macro_f1]", "does not fit free text"),
        ("[3]", "unknown metric '3'"),
    ],
)
def test_other_metrics_that_cannot_be(tmp_path: Path, written: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        load(tmp_path, BASE + f"metric: bleu\nalso_metrics: {written}\n")
