"""Specs of models behind an API that cannot be asked: all found before anything is sent."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from savile.errors import EnvironmentProblem
from savile.lm.endpoint import open_endpoint
from savile.lm.endpoint.purse import Purse
from savile.spec.endpoint import EndpointSection
from tests.bad_inputs.material import SPEC, Case, attempt, check

HERE = "https://here/v1"
PASTED = "sk-proj-0123456789abcdef"


def base(name: str, section: str, *words: str, more: str = "") -> Case:
    return Case(name, 2, words, spec=f"{SPEC}base: {section}\n{more}", fails_at="spec")


def lines(name: str, text: str, *words: str) -> Case:
    return Case(name, 2, words, spec=SPEC + text + "\n", fails_at="spec")


MODEL = f"{{endpoint: '{HERE}', model: m}}"
CASES = [
    base(
        "scheme",
        "{endpoint: 'ftp://here/v1', model: m}",
        "task.yaml:9:18: 'endpoint' should start with http:// or https://",
        "found 'ftp://here/v1'",
    ),
    base("no-host", "{endpoint: 'https:///v1', model: m}", "name a host"),
    base("no-scheme", "{endpoint: 'here/v1', model: m}", "should start with http://"),
    base("port", "{endpoint: 'http://here:99999/v1', model: m}", "task.yaml:9:18", "not a URL"),
    base("bracket", "{endpoint: 'http://[::1/v1', model: m}", "not a URL"),
    base("key-in-url", f"{{endpoint: 'https://me:{PASTED}@here/v1', model: m}}", "base.key_env"),
    base("key-in-query", f"{{endpoint: '{HERE}?key={PASTED}', model: m}}", "base.key_env"),
    base(
        "whole-call",
        f"{{endpoint: '{HERE}/chat/completions', model: m}}",
        f"the address before /chat/completions: write {HERE}",
    ),
    base("no-model", f"{{endpoint: '{HERE}'}}", "task.yaml:9:7: missing key 'model'"),
    base("empty-model", "{model: ''}", "task.yaml:9:15: 'model' should not be empty"),
    base("key-name", "{modle: m}", "unknown key 'modle'; did you mean 'model'?", "missing key"),
    base("pasted-key", f"{{model: m, api_key: {PASTED}}}", "task.yaml:9:7: a spec holds no key"),
    base("key-as-name", f"{{model: m, key_env: {PASTED}}}", "never the key itself"),
    base("other-api", "{model: m, api: responses}", "'api' should be 'chat' or 'completions'"),
    base("price-below", "{model: m, price: {input: -1, output: 2}}", "'input' should be at least"),
    base("half-a-price", "{model: m, price: {input: 1}}", "missing key 'output'"),
    base("price-text", "{model: m, price: cheap}", "'price' should be a section"),
    base("own-field", "{model: m, request: {max_tokens: 3}}", "may not set 'max_tokens'"),
    base("no-request", "{model: m, concurrency: 0}", "'concurrency' should be at least 1"),
    base("no-time", "{model: m, timeout_seconds: 0}", "'timeout_seconds' should be above"),
    base("for-ever", "{model: m, give_up_seconds: .inf}", "'give_up_seconds'", "finite"),
    base("no-tokens", "{model: m, max_tokens: 0}", "'max_tokens' should be at least 1"),
    base("unpriced", MODEL, "task.yaml:10:15", "prices of every", more="budget: {usd: 5}\n"),
    base("below-zero", MODEL, "'usd' should be at least 0", more="budget: {usd: -5}\n"),
    base(
        "nobody-to-pay", "embedded", "task.yaml:10:15", "on this machine", more="budget: {usd: 5}"
    ),
    lines("one-of-several", "bases: [embedded]", "'bases' should have at least 2 item(s)"),
    lines("both", "base: embedded\nbases: [embedded, {model: m}]", "'base' and 'bases' are both"),
    lines("no-list", "bases: embedded", "task.yaml:9:8: 'bases' should be a list"),
    lines(
        "twice", "bases: [{model: m}, {model: m}]", "task.yaml:9:21: the base 'm' is named twice"
    ),
    lines("inside", "bases: [embedded, {modle: m}]", "task.yaml:9:20", "did you mean 'model'?"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_said(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    check(case, tmp_path, monkeypatch)


@pytest.mark.parametrize("case", [c for c in CASES if PASTED in c.spec], ids=lambda c: c.name)
def test_a_key_in_a_spec_is_not_repeated(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = str(attempt(case, tmp_path))
    assert case.words[0] in said
    assert PASTED not in said


def test_a_credential_in_the_environments_address_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"https://me:{PASTED}@here/v1")
    monkeypatch.chdir(tmp_path)
    said = str(attempt(base("environment", "{model: m}"), tmp_path))
    assert "base.key_env" in said
    assert PASTED not in said


def test_the_environments_address_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://there:8/v1/")
    assert EndpointSection(model="m").endpoint == "http://there:8/v1"
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert EndpointSection(model="m").endpoint == "https://api.openai.com/v1"


def test_a_missing_client_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = importlib.import_module

    def without(name: str, *more: Any) -> Any:
        if name.endswith(".wire"):
            raise ImportError("No module named 'openai'")
        return imported(name, *more)

    monkeypatch.setattr(importlib, "import_module", without)
    section = EndpointSection(model="m", endpoint=HERE)
    with pytest.raises(EnvironmentProblem, match="not installed") as error:
        open_endpoint(section, Purse(), None)
    assert "pip install 'savile[api]'" in str(error.value)
    assert error.value.exit_code == 4
