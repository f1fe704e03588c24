"""A model behind an API writes instructions for the prompt search of a base that is here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from savile import spec as specs
from savile import store
from savile.data import load
from savile.errors import InterruptedRun, UsageError
from savile.ladder import estimate
from savile.ladder import run as ladder
from savile.ladder.folder import RunFolder
from tests import small_case
from tests.endpoint_server import Exchange, Server

LADDER = "[{searched_prompt: {proposals: 3, formats: [], judged: 8, budget: 64}}]"
WRITES = ("Say yes or no.", '"Say yes or no."', "Answer by the noun.")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Return a server that writes another instruction at every request."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-proposes-0123456789")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    texts = [*WRITES, *WRITES]
    with Server(lambda exchange: exchange.say(texts.pop(0)), models=["m"]).running() as running:
        yield running


def task(folder: Path, base: Path, server: Server, more: str = "", rungs: str = LADDER) -> Path:
    price = "price: {input: 2, output: 10}, concurrency: 1"
    path = small_case.write_case(folder, base, ladder=rungs)
    proposer = f"{{endpoint: '{server.url}', model: m, {price}{more}}}"
    text = path.read_text().replace("\nprompt: {", f"\nprompt: {{proposer: {proposer}, ")
    path.write_text(text.replace("{train_examples: 320}", "{train_examples: 320, usd: 1}"))
    return path


def row_of(board: dict[str, Any]) -> dict[str, Any]:
    return next(row for row in board["board"] if row["kind"] == "prompt")


def prompt_of(exchange: Exchange) -> str:
    return str(exchange.body["messages"][-1]["content"])


def test_proposals_are_candidates_logged_paid_and_kept(
    server: Server, tiny_base: Path, tmp_path: Path
) -> None:
    spec = specs.load(task(tmp_path / "case", tiny_base, server))
    most = estimate.at_most(spec, load(spec))
    board = ladder.run(spec, tmp_path / "runs" / "a")
    row, folder = row_of(board), RunFolder(tmp_path / "runs" / "a")
    assert most is not None
    assert len(server.seen) == most.requests == 3
    assert {exchange.body["temperature"] for exchange in server.seen} == {1.0}
    assert len({exchange.body["seed"] for exchange in server.seen}) == 3
    lines = (tmp_path / "case" / "train.jsonl").read_text().splitlines()
    train = [json.loads(line) for line in lines]
    shown = [r for r in train if f"Input: {r['input']}\n" in prompt_of(server.seen[0])]
    assert len(shown) == 8
    (trial,) = [json.loads(f.read_text()) for f in folder.path.glob("trials/*/result.json")]
    found = trial["searched"]
    assert found["proposed"] == ["Say yes or no.", "Answer by the noun."]
    assert [one["name"] for one in found["tried"]] == ["given", "proposal 1", "proposal 2"]
    assert row["settings"]["searched"]["candidates"] == 3
    assert f"2 instructions were proposed by m at {server.host} for" in row["reason"]
    assert row["labels_used"] == 8 + found["rows"]
    paid = store.read_events(folder.payments_path)
    assert found["usd"] == pytest.approx(sum(p["usd"] for p in paid))
    assert board["endpoint"]["requests"] == 3
    assert 0 < found["usd"] <= (most.usd or 0.0)
    again = ladder.run(spec, tmp_path / "runs" / "b")
    assert len(server.seen) == 3
    assert again["endpoint"]["usd_paid"] == 0
    assert row_of(again)["score"] == row["score"]


def test_another_proposer_is_another_run_and_the_ceiling_holds_for_it(
    server: Server, tiny_base: Path, tmp_path: Path
) -> None:
    path = task(tmp_path / "case", tiny_base, server)
    with pytest.raises(InterruptedRun, match=r"budget\.usd"):
        ladder.run(specs.load(path, ["budget.usd=0.0001"]), tmp_path / "runs" / "a")
    ladder.run(specs.load(path), tmp_path / "runs" / "a")
    with pytest.raises(UsageError, match="`base` differs"):
        ladder.run(specs.load(path, ["prompt.proposer.model=n"]), tmp_path / "runs" / "a")


@pytest.mark.parametrize(
    ("more", "rungs", "said"),
    [
        ("", "[zero_shot]", "no technique of the ladder asks 'proposer'"),
        (", request: {temperature: 0}", LADDER, "'request' sets 'temperature'"),
        (", request: {seed: 3}", LADDER, "'request' sets 'seed'"),
    ],
)
def test_what_would_not_be_asked_is_said(
    more: str, rungs: str, said: str, server: Server, tiny_base: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        specs.load(task(tmp_path / "case", tiny_base, server, more, rungs))
    assert said in str(caught.value)
