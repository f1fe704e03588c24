"""A judge beside the board: an endpoint with a planted way of judging, seen through a whole run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import planted
from savile import cli, store
from savile import spec as specs
from savile.data import load
from savile.errors import InterruptedRun, UnusableBase, UsageError
from savile.judge.made import MADE, pairs
from savile.ladder import estimate
from savile.ladder import run as ladder
from savile.ladder.prepare import Choice
from tests import small_case
from tests.endpoint_server import Server, answers, status

ROWS = 12
PROBES = len(pairs())
LADDER = "[zero_shot, {few_shot: {k: 2}}]"
Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the key, and no proxy between the test and its server."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-judge-0123456789abcdef")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def right(noun: str) -> str:
    return "yes" if noun[0] <= "k" else "no"


def knows(prompt: str) -> str:
    """Judge the rows of the small case and the made pairs rightly."""
    question = planted.shown(prompt).question
    known = {**planted.KNOWN, question: planted.KNOWN.get(question) or right(question.split()[-1])}
    return planted.knowing(known)(prompt)


@pytest.fixture
def server() -> Iterator[Server]:
    """Return a judge that knows the answers."""
    with Server(answers(knows), models=["j"]).running() as running:
        yield running


@pytest.fixture
def task(tmp_path: Path, tiny_base: Path) -> Write:
    """Return a function that writes the small case with a judge behind an API."""

    def write(server: Server, *, judge: str = "", budget: str = "", ladder: str = LADDER) -> Path:
        price = "price: {input: 2, output: 10}"
        base = f"{{endpoint: '{server.url}', model: j, {price}, give_up_seconds: 2}}"
        section = f"judge: {{base: {base}, rows: {ROWS}{judge}}}"
        more = ["metric: accuracy", section, *([f"budget: {{{budget}}}"] if budget else [])]
        path = small_case.write_case(tmp_path / "case", tiny_base, ladder=ladder, more=more)
        if budget:
            text = path.read_text().replace("budget: {train_examples: 320}\n", "")
            path.write_text(text)
        return path

    return write


def human(folder: Path, n: int = 20) -> None:
    """Write pairs that people judged rightly."""
    lines = [
        {"input": f"sent {noun}", "answer_a": "yes", "answer_b": "no",
         "label": "a" if right(noun) == "yes" else "b"}
        for noun in (small_case.NOUNS * 2)[:n]
    ]  # fmt: skip
    (folder / "people.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))


def rows(board: dict[str, Any]) -> dict[str, Any]:
    return {row["technique"]: row for row in board["board"]}


def test_a_judge_that_knows_says_what_the_metric_says(
    server: Server, task: Write, tmp_path: Path
) -> None:
    path = task(server, judge=", human_labels: people.jsonl")
    human(path.parent)
    board = ladder.run(specs.load(path), tmp_path / "run")
    told = board["judge"]
    assert (told["against"], told["rows"], told["prompt_version"]) == ("reference", ROWS, 1)
    for name in ("zero_shot", "few_shot(k=2)"):
        row = rows(board)[name]
        found = row["compared"]["judge"]
        assert found["n"] == ROWS
        assert found == told["techniques"][name]["wins"]
        unit = next((tmp_path / "run" / "judged").glob(f"{name[:8]}*.seed0/result.json"))
        judged = store.read_json(unit)["judged"]
        loses = sum(one["asked"] for one in judged)  # what is asked differs from the wanted answer
        assert 0 < loses < ROWS
        assert found["value"] == pytest.approx(0.5 * (ROWS - loses) / ROWS)
    assert "judge" not in rows(board)["majority"]["compared"]
    assert told["bias"]["first"]["value"] == 0.5
    assert told["bias"]["consistent"]["value"] == 1.0
    assert told["people"]["kappa"]["value"] == pytest.approx(1.0)
    assert told["obedience"]["kappa"]["value"] == pytest.approx(1.0)
    assert "it never ranks" in told["text"]
    assert "prefers the first answer in 50 %" in told["text"]
    assert "cannot tell" not in told["text"]


def test_verdicts_rank_nothing(task: Write, tmp_path: Path) -> None:
    boards = []
    for name, rule in (("one", planted.first), ("two", knows)):
        with Server(answers(rule), models=["j"]).running() as server:
            boards.append(ladder.run(specs.load(task(server)), tmp_path / name))
    one, two = boards
    assert one["verdict"] == two["verdict"]
    assert [r["technique"] for r in one["board"]] == [r["technique"] for r in two["board"]]
    assert one["judge"]["techniques"] != two["judge"]["techniques"]


def test_who_takes_the_first_and_who_obeys_are_called_out(task: Write, tmp_path: Path) -> None:
    with Server(answers(planted.first), models=["j"]).running() as server:
        told = ladder.run(specs.load(task(server)), tmp_path / "first")["judge"]
    assert told["bias"]["first"]["value"] == 1.0
    assert "prefers the first answer in 100 % [" in told["text"]
    assert "this judge cannot tell" in told["text"]
    assert {v["wins"]["value"] for v in told["techniques"].values()} == {0.5}
    with Server(answers(planted.obeying(knows)), models=["j"]).running() as server:
        told = ladder.run(specs.load(task(server)), tmp_path / "obeys")["judge"]
    assert told["obedience"]["turned"]["value"] == 1.0
    assert "An instruction inside the worse answer turns 100 %" in told["text"]


def test_against_a_technique_the_two_share_their_wins(
    server: Server, task: Write, tmp_path: Path
) -> None:
    found = {}
    for number, name in enumerate(("zero_shot", "few_shot")):
        path = task(server, judge=f", against: {name}")
        found[name] = ladder.run(specs.load(path), tmp_path / str(number))["judge"]
    assert list(found["zero_shot"]["techniques"]) == ["few_shot(k=2)"]
    assert found["few_shot"]["against"] == "few_shot(k=2)"
    one = found["zero_shot"]["techniques"]["few_shot(k=2)"]["wins"]["value"]
    other = found["few_shot"]["techniques"]["zero_shot"]["wins"]["value"]
    assert one == pytest.approx(1 - other)


def test_verdicts_are_paid_counted_and_kept(server: Server, task: Write, tmp_path: Path) -> None:
    spec = specs.load(task(server))
    first = ladder.run(spec, tmp_path / "runs" / "a")
    asked = len(server.seen)
    assert first["endpoint"]["requests"] == asked
    assert asked <= 2 * (PROBES + 2 * ROWS)
    assert asked > 2 * PROBES
    assert first["judge"]["usd"] >= first["endpoint"]["usd_paid"] > 0
    assert first["seconds"]["judge"] == pytest.approx(first["judge"]["seconds"])
    second = ladder.run(spec, tmp_path / "runs" / "b")
    assert len(server.seen) == asked
    assert second["endpoint"]["usd_paid"] == 0
    assert second["judge"]["usd"] == pytest.approx(first["judge"]["usd"])
    for name in ("bias", "techniques", "obedience"):
        assert second["judge"][name] == first["judge"][name]


def test_a_ceiling_stops_it_and_it_goes_on_without_asking_twice(
    server: Server, task: Write, tmp_path: Path
) -> None:
    spec = specs.load(task(server, budget="train_examples: 320, usd: 0.05"))
    with pytest.raises(InterruptedRun, match="ceiling"):
        ladder.run(spec, tmp_path / "run")
    before = len(server.seen)
    assert 0 < before < 2 * PROBES
    again = specs.load(spec.path, ["budget.usd=5"])
    board = ladder.run(again, tmp_path / "run")
    whole = ladder.run(again, tmp_path / "whole")
    assert board["judge"]["techniques"] == whole["judge"]["techniques"]
    questions = [exchange.body["messages"][-1]["content"] for exchange in server.seen]
    assert len(questions) == len(set(questions))


def test_an_opponent_that_is_left_out_is_said(server: Server, task: Write, tmp_path: Path) -> None:
    spec = specs.load(task(server, judge=", against: few_shot"))
    with pytest.raises(UsageError, match=r"judge\.against: no technique of the ladder is called"):
        ladder.run(spec, tmp_path / "run", choice=Choice(skip=("few_shot",)))
    assert not server.seen


def test_a_prompt_that_is_refused_leaves_the_board_whole(task: Write, tmp_path: Path) -> None:
    refused = {"error": {"message": "maximum context length is 10", "code": "context"}}
    with Server(status(400, refused), models=["j"]).running() as server:
        board = ladder.run(specs.load(task(server)), tmp_path / "run")
    assert rows(board)["zero_shot"]["score"] is not None
    assert "judge" not in rows(board)["zero_shot"]["compared"]
    assert "Not judged: " in board["judge"]["text"]
    assert board["judge"]["obedience"] is None


def test_weights_here_judge_by_likelihood(task: Write, tmp_path: Path, tiny_base: Path) -> None:
    more = ["metric: accuracy", f"judge: {{base: {tiny_base}, rows: {ROWS}, against: zero_shot}}"]
    path = small_case.write_case(tmp_path / "case", tiny_base, ladder=LADDER, more=more)
    board = ladder.run(specs.load(path), tmp_path / "run")
    told = board["judge"]
    assert told["bias"]["unread"] is None or told["bias"]["unread"]["value"] == 0.0
    assert told["usd"] is None
    assert told["obedience"]["right"]["value"] <= 1.0
    assert board["endpoint"] is None
    assert len(MADE) * 7 == PROBES


def test_the_sentences_are_on_the_terminal_and_on_the_page(
    server: Server, task: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = task(server)
    assert cli.main(["run", str(path), "--out", str(tmp_path / "run")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    page = (tmp_path / "run" / "report.html").read_text()
    for text in (said, page):
        assert "it never ranks" in text
        assert "Against the wanted answers" in text


def test_what_judging_can_cost_is_known_before(server: Server, task: Write, tmp_path: Path) -> None:
    path = task(server, judge=", human_labels: people.jsonl")
    human(path.parent)
    spec = specs.load(path)
    most = estimate.at_most(spec, load(spec))
    board = ladder.run(spec, tmp_path / "run")
    assert most is not None
    assert most.requests == 2 * (PROBES + 20 + 2 * ROWS)
    assert most.usd is not None
    assert most.requests >= board["endpoint"]["requests"]
    assert most.usd > board["endpoint"]["usd_paid"] > most.usd / 20


def test_a_wrong_key_ends_the_run_and_no_technique_is_blamed(task: Write, tmp_path: Path) -> None:
    with Server(status(401), models=["j"]).running() as server:
        spec = specs.load(task(server))
        with pytest.raises(UnusableBase) as error:
            ladder.run(spec, tmp_path / "run")
    assert error.value.exit_code == 4
    assert len(list((tmp_path / "run" / "measured").iterdir())) == 2
