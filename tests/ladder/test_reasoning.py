"""Runs that reason: votes of nested samples, bootstrapped examples, and what all of it costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from savile import spec as specs
from savile.data import load
from savile.ladder import estimate
from savile.ladder import run as ladder
from savile.ladder.folder import RunFolder, unit_id
from tests import small_case
from tests.endpoint_server import Exchange, Server

LADDER = (
    "[{chain_of_thought+self_consistency: {n: 1}}, {chain_of_thought+self_consistency: {n: 3}},"
    " {bootstrap: {k: 2, tries: 8}}]"
)
ONE, THREE = (f"chain_of_thought+self_consistency(n={n})" for n in (1, 3))
BOOTSTRAP = "bootstrap(k=2, tries=8)"
PROMPT = 20
STEPS = 11


def thinks(exchange: Exchange) -> None:
    """Work out the small case: greedy answers are right, drawn ones by their seeds, and some of
    them hold no answer."""
    noun = exchange.question.split("\n")[0].split()[-1]
    right, seed = noun[0] <= "k", exchange.body.get("seed")
    choices = []
    for index in range(exchange.body.get("n", 1)):
        luck = 0 if seed is None else (seed + index) % 5
        said = "yes" if right is (luck < 3) else "no"
        text = f"It is {noun}. Answer: {said}" if luck < 4 else f"It is {noun}."
        message = {"role": "assistant", "content": text}
        choices.append({"index": index, "finish_reason": "stop", "message": message})
    written = STEPS * len(choices)
    usage = {
        "prompt_tokens": PROMPT,
        "completion_tokens": written,
        "total_tokens": PROMPT + written,
    }
    body = {"model": "served", "choices": choices, "usage": usage}
    exchange.send(200, json.dumps(body).encode())


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a key, and no proxy between the test and its server."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-reasoning-0123456789")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Return a server that thinks."""
    with Server(thinks, models=["m"]).running() as running:
        yield running


def written(folder: Path, server: Server, ladder_text: str = LADDER) -> Path:
    path = small_case.write_case(folder, Path("BASE"), ladder=ladder_text)
    base = f"{{endpoint: '{server.url}', model: m, price: {{input: 2, output: 10}}}}"
    text = path.read_text().replace("base: BASE", f"base: {base}")
    path.write_text(text.replace("budget: {train_examples: 320}", ""))
    return path


def rows(board: dict[str, Any]) -> dict[str, Any]:
    return {row["technique"]: row for row in board["board"]}


def test_a_board_of_reasoning(server: Server, tmp_path: Path) -> None:
    spec, out = specs.load(written(tmp_path / "case", server)), tmp_path / "runs" / "a"
    most = estimate.at_most(spec, load(spec))
    board = ladder.run(spec, out)
    found = rows(board)
    one, three, own = (found[name] for name in (ONE, THREE, BOOTSTRAP))
    assert own["score"] == 1.0
    assert (own["labels_used"], one["labels_used"]) == (4, 0)
    assert (one["prompt_tokens"], three["prompt_tokens"]) == (PROMPT, PROMPT)
    assert (one["completion_tokens"], three["completion_tokens"]) == (STEPS, 3 * STEPS)
    for row, n in ((one, 1), (three, 3)):
        assert row["usd_per_1000"] == pytest.approx((2 * PROMPT + 10 * n * STEPS) / 1000)
    assert one["votes"] is None
    assert 1 / 3 <= three["votes"] <= 1.0
    assert one["unparseable"] > three["unparseable"]
    assert "(no answer in it) It is " in str(one["mistakes"])
    assert most is not None
    assert most.usd is not None
    asked = board["endpoint"]
    assert asked["requests"] == 2 * 56 + 56 + 4
    assert asked["requests"] <= most.requests == (1 + 3 + 1) * 56 + 8
    assert asked["usd_paid"] <= most.usd


def test_the_samples_of_three_hold_that_of_one(server: Server, tmp_path: Path) -> None:
    spec, out = specs.load(written(tmp_path / "case", server)), tmp_path / "runs" / "a"
    ladder.run(spec, out)
    single, several = (
        {p.id: p for p in unit.predictions}
        for name in (ONE, THREE)
        if (unit := RunFolder(out).read(f"measured/{unit_id(name, 0)}")) is not None
    )
    agreed = [p for p in several.values() if p.votes == 1.0]
    assert agreed
    assert all(single[p.id].answer == p.answer for p in agreed)


def test_a_base_that_solves_nothing_is_a_row_with_its_reason(tmp_path: Path) -> None:
    with Server(lambda exchange: exchange.say("I cannot tell.")).running() as server:
        path = written(tmp_path / "case", server, f"[zero_shot, {BOOTSTRAP.split('(')[0]}]")
        found = rows(ladder.run(specs.load(path), tmp_path / "runs" / "a"))
    assert found["bootstrap"]["status"] == "failed"
    assert "solved none of 48 training rows" in found["bootstrap"]["reason"]
