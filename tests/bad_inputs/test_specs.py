"""Specs that cannot be run: C1 to C23 of the list of bad inputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bad_inputs.material import FREE, ONE, SPEC, Case, check


def yaml(name: str, text: str, *words: str) -> Case:
    return Case(name, 2, words, spec=text, fails_at="spec")


def added(line: str) -> str:
    return SPEC + line + "\n"


BOMB = "a0: &a0 [x, x]\n" + "\n".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)
)
CASES = [
    yaml(
        "C1-unknown-key",
        added("bace: x"),
        "task.yaml:9:1: unknown key 'bace'; did you mean 'base'?",
    ),
    yaml(
        "C1-unknown-nested",
        SPEC.replace("  dev:", "  dve:"),
        "task.yaml:4:3",
        "did you mean 'dev'?",
    ),
    yaml(
        "C1-unknown-technique",
        SPEC.replace("zero_shot", "zero_shoot"),
        "task.yaml:8:10",
        "unknown technique 'zero_shoot'; did you mean 'zero_shot'?",
    ),
    yaml("C1-unknown-setting", SPEC.replace("{k: 4}", "{kay: 4}"), "unknown key 'kay'"),
    yaml(
        "C1-unknown-metric", added("metric: acuracy"), "task.yaml:9:9", "did you mean 'accuracy'?"
    ),
    yaml("C1-all-at-once", added("bace: x\nseed: -1\ngoal: high"), "bace", "'seed'", "'goal'"),
    yaml("C2-text-for-number", added("seeds: many"), "task.yaml:9:8", "whole number", "'many'"),
    yaml("C2-fraction", added("seeds: 1.5"), "'seeds' should be a whole number"),
    yaml("C2-list-for-text", added("base: [a, b]"), "'base' should be text"),
    yaml("C2-text-for-section", added("budget: large"), "'budget' should be a section"),
    yaml("C2-bool", SPEC.replace("prompt:", "  dedup: perhaps\nprompt:"), "true or false"),
    yaml("C3-null-label", SPEC.replace("[no, yes]", "[no, null]"), "'labels'", "quote it"),
    yaml("C3-label-twice", SPEC.replace("[no, yes]", "[no, no]"), "'no' twice"),
    yaml("C3-labels-text", SPEC.replace("[no, yes]", "no yes"), "'labels' should be a list"),
    yaml("C4-duplicate-key", added("task: again"), "task.yaml:9:1", "'task' is written twice"),
    yaml("C4-tab", SPEC.replace("  dev:", "\tdev:"), "task.yaml:4:", "tab", "Indent with spaces"),
    yaml(
        "C4-python-object", added("base: !!python/object:os.system x"), "task.yaml:9", "not allowed"
    ),
    yaml("C4-unclosed", added("base: [a, b"), "not YAML"),
    yaml("C4-bomb", added(BOMB), "aliases"),
    yaml("C4-deep", added("base: " + "[" * 5000 + "]" * 5000), "deeply"),
    yaml("C4-two-documents", added("---\ntask: b"), "not YAML"),
    yaml("C4-empty", "", "the spec is empty"),
    yaml("C4-list", "- a\n- b\n", "should be a mapping"),
    yaml("C5-negative", added("seed: -1"), "'seed' should be at least 0; found -1"),
    yaml("C5-zero", SPEC.replace("{k: 4}", "{k: 0}"), "'k' should be at least 1"),
    yaml(
        "C5-no-samples",
        SPEC.replace("zero_shot", "self_consistency: {n: 0}"),
        "'n' should be at least 1; found 0. How many answers are drawn.",
    ),
    yaml(
        "C5-samples-without-chance",
        SPEC.replace("zero_shot", "self_consistency: {n: 3, temperature: 0}"),
        "'temperature' should be above 0",
        "at 0 all samples would be equal",
    ),
    yaml(
        "C5-no-nucleus",
        SPEC.replace("zero_shot", "self_consistency: {top_p: 0}"),
        "'top_p' should be above 0",
    ),
    yaml(
        "C5-empty-stop",
        SPEC.replace("prompt:", "prompt:\n  stop: ['']"),
        "'stop' holds an empty text, which would end every answer at once",
    ),
    yaml("C5-stop-is-a-text", SPEC.replace("prompt:", "prompt:\n  stop: END"), "a list of texts"),
    yaml("C5-stop-is-nothing", SPEC.replace("prompt:", "prompt:\n  stop: [null]"), "quote it"),
    yaml("C5-huge", SPEC.replace("{k: 4}", "{k: 1000000}"), "'k' should be at most 1024"),
    yaml("C5-nan", added("goal: .nan"), "finite"),
    yaml("C5-inf", added("budget: {seconds: .inf}"), "finite"),
    yaml("C5-shares", ONE.replace("jsonl", "jsonl\n  shares: {train: 0.9}"), "add up to 1"),
    yaml("C6-no-time", added("budget: {seconds: 0}"), "'seconds' should be above 0"),
    yaml("C6-no-search", added("budget: {search: 0}"), "'search' should be at least 1"),
    yaml(
        "C7-metric-for-labels", added("metric: bleu"), "task.yaml:9:9", "does not fit", "accuracy"
    ),
    yaml(
        "C7-metric-for-text", FREE + "metric: macro_f1\n", "does not fit free text", "exact_match"
    ),
    yaml("C23-seed-huge", added(f"seed: {1 << 70}"), "'seed' should be below"),
    yaml("C23-seed-list", added("seed: [1, 2]"), "'seed' should be a whole number"),
    yaml("task-id", SPEC.replace("tickets", "../etc"), "task.yaml:1:7", "'task' should match"),
    yaml("no-task", SPEC.replace("task: tickets\n", ""), "missing key 'task'"),
    yaml("no-data", "task: a\n", "missing key 'data'"),
    yaml("two-sources", SPEC.replace("  dev:", "  file: x.csv\n  dev:"), "both 'file' and"),
    yaml("twice-in-one", SPEC.replace("zero_shot", "few_shot+few_shot"), "occurs twice"),
    yaml(
        "same-technique", SPEC.replace("zero_shot", "few_shot: {k: 4}"), "same technique as item 1"
    ),
    yaml("not-a-technique", SPEC.replace("zero_shot", "[[a], b]"), "should be a name such as"),
    yaml("ladder-empty", SPEC.replace("[zero_shot, {few_shot: {k: 4}}]", "[]"), "1 to 200"),
    Case(
        "C1-set",
        2,
        ("--set data.leek", "did you mean 'leak'?"),
        fails_at="spec",
        overrides=("data.leek=allow",),
    ),
    Case("C5-set", 2, ("--set seed", "at least 0"), fails_at="spec", overrides=("seed=-3",)),
    Case("set-no-value", 2, ("should be key=value",), fails_at="spec", overrides=("seed",)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_said(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(case, tmp_path, monkeypatch)
