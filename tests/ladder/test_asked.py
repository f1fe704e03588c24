"""A whole run on a model behind an API: board, money, going on, and what is left behind."""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from savile import cli, store
from savile import spec as specs
from savile.data import load
from savile.errors import InterruptedRun, UsageError
from savile.ladder import estimate
from savile.ladder import run as ladder
from savile.ladder.answer import Customized
from savile.ladder.folder import RunFolder
from savile.ladder.interrupt import Interrupt
from savile.ladder.prepare import Choice
from tests import small_case
from tests.endpoint_server import (
    Act,
    Exchange,
    Server,
    answers,
    closes,
    sends,
    stalls,
    status,
    truncated,
)

KEY = "sk-ladder-0123456789abcdef"
LADDER = "[zero_shot, {few_shot: {k: 2}}, chain_of_thought, lora]"
PRICES = "price: {input: 2, output: 10}"


def right(question: str) -> str:
    """Answer as the rows of the small case want it, wrongly where the noun starts with `p`."""
    noun = question.split()[-1]
    return "yes" if noun[0] <= "k" or noun[0] == "p" else "no"


Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the key, and no proxy between the test and its server."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    """Return a server that knows the answers."""
    with Server(answers(right), models=["m"]).running() as running:
        yield running


@pytest.fixture
def task(tmp_path: Path) -> Write:
    """Return a function that writes the small case with a server's model as its base."""

    def write(server: Server, *, base: str = PRICES, more: str = "", ladder: str = LADDER) -> Path:
        path = small_case.write_case(tmp_path / "case", Path("BASE"), ladder=ladder)
        text = path.read_text().replace(
            "base: BASE", f"base: {{endpoint: '{server.url}', model: m, {base}}}"
        )
        budget = "budget: {train_examples: 320}"
        path.write_text(text.replace(budget, more))
        return path

    return write


def rows(board: dict[str, Any]) -> dict[str, Any]:
    return {row["technique"]: row for row in board["board"]}


def test_prompts_are_measured_and_what_trains_is_a_row_with_its_reason(
    server: Server, task: Write, tmp_path: Path
) -> None:
    spec = task(server, more="budget: {usd: 1.0}")
    board = ladder.run(specs.load(spec), tmp_path / "runs" / "a")
    found = rows(board)
    assert board["base"] == f"m at {server.host}"
    assert found["lora"]["status"] == "not_run"
    assert "weights" in found["lora"]["reason"]
    assert found["chain_of_thought"]["unparseable"] == 1.0
    for name in ("zero_shot", "few_shot(k=2)"):
        row = found[name]
        assert (row["status"], row["remote"], row["n"]) == ("ok", True, 40)
        assert 0.8 < row["score"] < 1.0
        assert 0 < row["latency_p50_seconds"] <= row["latency_p95_seconds"]
        price = 2 * row["prompt_tokens"] + 10 * row["completion_tokens"]
        assert row["usd_per_1000"] == pytest.approx(price / 1000)
        assert row["usd_once"] == 0.0
    assert not found["majority"]["remote"]
    asked = board["endpoint"]
    assert asked["requests"] == len(server.seen) == 3 * 56
    assert asked["answered_as"] == ["served"]
    paid = store.read_events(tmp_path / "runs" / "a" / "payments.jsonl")
    assert asked["usd_paid"] == pytest.approx(sum(p["usd"] for p in paid))
    assert len(paid) == 3 * 56


def test_the_key_is_in_no_file(server: Server, task: Write, tmp_path: Path) -> None:
    server.acts[:] = [answers(f"no, {KEY}")]
    spec = task(server, ladder="[zero_shot]")
    ladder.run(specs.load(spec), tmp_path / "runs" / "a")
    assert server.seen[0].headers["authorization"] == f"Bearer {KEY}"
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any(b"[key]" in file.read_bytes() for file in files)
    assert not [file for file in files if KEY.encode() in file.read_bytes()]


def test_another_run_beside_it_asks_only_what_is_new(
    server: Server, task: Write, tmp_path: Path
) -> None:
    spec = specs.load(task(server, ladder="[zero_shot]"))
    first = ladder.run(spec, tmp_path / "runs" / "a")
    before = len(server.seen)
    second = ladder.run(spec, tmp_path / "runs" / "b")
    assert len(server.seen) == before
    assert second["endpoint"] == {
        **first["endpoint"],
        "requests": 0,
        "cached": 56,
        "usd_paid": 0,
    }
    same = ("score", "usd_per_1000", "latency_p50_seconds", "prompt_tokens")
    a, b = rows(first)["zero_shot"], rows(second)["zero_shot"]
    assert [a[name] for name in same] == [b[name] for name in same]


def test_the_ceiling_stops_the_run_and_more_money_lets_it_go_on(
    server: Server, task: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, out = task(server, more="budget: {usd: 0.006}", ladder=LADDER), tmp_path / "runs" / "a"
    assert cli.main(["run", str(spec), "-o", str(out), "-q"]) == 75
    said = capsys.readouterr().err
    assert "budget.usd: stopped before the ceiling of 0.006 USD would be passed" in said
    assert "(--set budget.usd=USD)" in said
    folder = RunFolder(out)
    assert sum(p["usd"] for p in store.read_events(folder.payments_path)) <= 0.006
    assert folder.board() is None
    assert cli.main(["run", str(spec), "-o", str(out), "-q"]) == 75
    more = ["--set", "budget.usd=1", "--set", "base.concurrency=2"]
    assert cli.main(["run", str(spec), "-o", str(out), "-q", *more]) == 0
    asked = [json.dumps(exchange.body["messages"]) for exchange in server.seen]
    assert len(asked) == len(set(asked)) == 3 * 56


def test_limits_errors_and_stalls_leave_the_board_of_a_server_without_them(
    server: Server, task: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("savile.lm.endpoint.patience.FIRST_SECONDS", 0.01)
    moods = {
        5: status(429, headers={"Retry-After": "0.02"}),
        7: status(503),
        11: truncated,
        13: closes,
        17: sends(b'{"choices": [{"mess'),
        37: stalls(1.0),
    }
    turn, met = itertools.count(1), set[str]()

    def moody(exchange: Exchange) -> None:
        """Misbehave to a question once: a question that is met with worse is an outage."""
        number, question = next(turn), json.dumps(exchange.body["messages"])
        bad = [act for every, act in moods.items() if number % every == 0 and question not in met]
        met.update([question] if bad else [])
        (bad[0] if bad else answers(right))(exchange)

    ladder_text = "[zero_shot, {few_shot: {k: 2}}]"
    with Server(moody).running() as bad:
        spec = task(bad, base=f"timeout_seconds: 0.5, {PRICES}", ladder=ladder_text)
        troubled = ladder.run(specs.load(spec), tmp_path / "bad" / "a")
    calm = ladder.run(specs.load(task(server, ladder=ladder_text)), tmp_path / "good" / "a")
    assert troubled["endpoint"]["retries"] > 20
    assert troubled["endpoint"]["usd_paid"] > calm["endpoint"]["usd_paid"]
    same = ("score", "score_by_seed", "usd_per_1000", "prompt_tokens", "mistakes")
    for name in ("zero_shot", "few_shot(k=2)"):
        a, b = rows(troubled)[name], rows(calm)[name]
        assert [a[field] for field in same] == [b[field] for field in same]


def test_an_outage_stops_the_run_and_fails_no_technique(
    task: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, phase = answers(right), ["before"]

    def sometimes(exchange: Exchange) -> None:
        (status(502) if phase == ["outage"] else good)(exchange)
        if phase == ["before"] and len(server.seen) >= 70:  # requests run side by side
            phase[:] = ["outage"]

    with Server(sometimes).running() as server:
        spec, out = task(server, base="give_up_seconds: 0.2"), tmp_path / "runs" / "a"
        assert cli.main(["run", str(spec), "-o", str(out), "-q"]) == 75
        assert "the endpoint gives no answer" in capsys.readouterr().err
        kept = RunFolder(out).events("committed")
        assert [e["unit"].split("/")[0] for e in kept] == ["trials"] * len(kept)
        phase[:] = ["after"]
        assert cli.main(["run", str(spec), "-o", str(out), "-q"]) == 0
    board = RunFolder(out).board() or {}
    assert {row["status"] for row in board["board"]} == {"ok", "not_run"}
    assert board["endpoint"]["retries"] == 0, "what an abandoned unit met is not the board's"


def test_a_wrong_key_leaves_a_folder_that_the_right_one_uses(
    task: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def guarded(exchange: Exchange) -> None:
        known = exchange.headers["authorization"] == f"Bearer {KEY}"
        (answers(right) if known else status(401))(exchange)

    with Server(guarded).running() as server:
        spec = task(server, base="key_env: OTHER_KEY", ladder="[zero_shot]")
        out = tmp_path / "runs" / "a"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OTHER_KEY", "sk-wrong-0123456789")
            assert cli.main(["run", str(spec), "-o", str(out), "-q"]) == 4
        said = capsys.readouterr().err
        assert f"{server.url}: the endpoint refuses the key in OTHER_KEY" in said
        assert "sk-wrong" not in said
        use = ["--set", "base.key_env=OPENAI_API_KEY"]
        assert cli.main(["run", str(spec), "-o", str(out), "-q", *use]) == 0


def test_what_can_change_an_answer_is_another_run(
    server: Server, task: Write, tmp_path: Path
) -> None:
    spec = task(server, ladder="[zero_shot]")
    ladder.run(specs.load(spec), tmp_path / "runs" / "a")
    for same in ("base.timeout_seconds=9", "base.give_up_seconds=9", "budget.usd=3"):
        ladder.run(specs.load(spec, [same]), tmp_path / "runs" / "a")
    for other, key in (
        ("base.model=n", "base"),
        ("base.max_tokens=9", "base"),
        ("base.price.input=9", "base"),
    ):
        with pytest.raises(UsageError, match=f"`{key}` differs"):
            ladder.run(specs.load(spec, [other]), tmp_path / "runs" / "a")


def test_a_signal_stops_a_run_that_waits(task: Write, tmp_path: Path) -> None:
    interrupt = Interrupt()

    def hangs(exchange: Exchange) -> None:
        interrupt.came = signal.SIGINT
        answers(right)(exchange)

    with Server(hangs).running() as server:
        spec = specs.load(task(server, ladder="[zero_shot]", base="concurrency: 1"))
        with pytest.raises(InterruptedRun, match="stopped by SIGINT"):
            ladder.run(spec, tmp_path / "runs" / "a", on_progress=lambda _: interrupt.check())
        assert len(server.seen) < 56


def test_impossible_usage_and_cut_answers_stand_beside_the_score(
    task: Write, tmp_path: Path
) -> None:
    lies: Act = answers(right, usage={"prompt_tokens": 0, "completion_tokens": 0})
    cut: Act = answers("no", finish_reason="length")
    with Server(*[answers(right)] * 16, lies, lies, cut, answers(right)).running() as server:
        spec = task(server, base=f"concurrency: 1, {PRICES}", ladder="[zero_shot]")
        board = ladder.run(specs.load(spec), tmp_path / "runs" / "a")
    said = rows(board)["zero_shot"]["reason"]
    assert "2 of 40 answers came with a usage that cannot be true (too few" in said
    assert "1 answers were cut (base.max_tokens gives them more room)" in said


def test_a_measured_prompt_answers_new_questions(
    server: Server, task: Write, tmp_path: Path
) -> None:
    spec, out = task(server, ladder="[{few_shot: {k: 2}}]"), tmp_path / "runs" / "a"
    ladder.run(specs.load(spec), out)
    before = len(server.seen)
    made = Customized(out, "few_shot(k=2)").predictions(["sold apples", "sold zebras"])
    assert [p.answer for p in made] == ["yes", "no"]
    assert all(p.usd and p.seconds for p in made)
    assert len(server.seen) == before + 2


# ── several bases ────────────────────────────────────────────────────────────────────────────


def test_weights_here_and_a_model_behind_an_api_stand_on_one_board(
    server: Server, task: Write, tiny_base: Path, tmp_path: Path
) -> None:
    path, out = task(server, ladder="[zero_shot, {lora: {learning_rate: 0.02}}]"), tmp_path / "a"
    text = path.read_text()
    first = next(line for line in text.splitlines() if line.startswith("base: "))
    both = f"bases: [{tiny_base}, {first.removeprefix('base: ')}]\nbudget: {{train_examples: 320}}"
    path.write_text(text.replace(first, both))
    board = ladder.run(specs.load(path), out)
    found = rows(board)
    assert board["base"] == f"{tiny_base}, m at {server.host}"
    here, there = f"zero_shot on {tiny_base}", "zero_shot on m"
    assert (found[here]["remote"], found[there]["remote"]) == (False, True)
    assert found[there]["score"] > found[here]["score"]
    assert (found[here]["usd_per_1000"], found[there]["usd_per_1000"] > 0) == (None, True)
    assert (found[here]["base"], found[there]["base"]) == (str(tiny_base), f"m at {server.host}")
    assert found[f"lora(learning_rate=0.02) on {tiny_base}"]["status"] == "ok"
    assert found["lora(learning_rate=0.02) on m"]["status"] == "not_run"
    assert board["endpoint"]["answers"] == 56
    assert Customized(out, there).predict(["sold apples"]) == ["yes"]
    assert set(Customized(out, here).predict(["sold apples"])) <= {"yes", "no"}
    chosen = Choice(only=("zero_shot",)).of(specs.load(path).candidates(frozenset({"pairs"})))
    assert [candidate.name for candidate in chosen] == [here, there]


def test_a_teacher_behind_an_api_is_paid_from_the_same_purse(
    server: Server, task: Write, tiny_base: Path, tmp_path: Path
) -> None:
    path = task(server, ladder="[{lora+distill_text: {lora: {learning_rate: 0.02}}}]")
    text = path.read_text()
    first = next(line for line in text.splitlines() if line.startswith("base: "))
    section = f"teacher: {{{first}}}\nbase: {tiny_base}\nbudget: {{train_examples: 320, usd: 1}}"
    path.write_text(text.replace(first, section))
    spec, out = specs.load(path), tmp_path / "a"
    most = estimate.at_most(spec, load(spec))
    board = ladder.run(spec, out)
    found = rows(board)
    assert found["teacher m: zero_shot"]["remote"]
    assert found["lora(learning_rate=0.02)+distill_text"]["status"] == "ok"
    paid = store.read_events(out / "payments.jsonl")
    assert most is not None
    assert len(paid) == len(server.seen) == most.requests == 48 + 16 + 40
    with pytest.raises(InterruptedRun, match=r"budget\.usd"):
        ladder.run(specs.load(path, ["budget.usd=0.001", "base=embedded"]), tmp_path / "b" / "c")


# ── before a run ─────────────────────────────────────────────────────────────────────────────


def test_check_tells_the_most_a_run_can_cost_and_asks_nothing(
    server: Server, task: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = task(server, more="budget: {usd: 1}")
    assert cli.main(["check", str(spec), "--json"]) == 0
    (said,) = [n for n in json.loads(capsys.readouterr().out)["notes"] if "endpoint" in n]
    assert server.seen == []
    found = estimate.at_most(specs.load(spec), load(specs.load(spec)))
    assert found is not None
    assert found.usd is not None
    assert said.startswith(f"endpoint: at most {3 * 56} requests and {found.usd:.2g} USD")
    assert said.endswith("budget.usd stops at 1 USD")
    board = ladder.run(specs.load(spec), tmp_path / "runs" / "a")
    assert board["endpoint"]["requests"] == found.requests
    assert 0 < board["endpoint"]["usd_paid"] < found.usd


def test_the_most_a_run_can_cost_is_enough_for_it(
    server: Server, task: Write, tmp_path: Path
) -> None:
    spec = specs.load(task(server, base=f"concurrency: 1, {PRICES}"))
    found = estimate.at_most(spec, load(spec))
    assert found is not None
    liars: Act = answers(right, usage=None)
    server.acts[:] = [liars]
    board = ladder.run(specs.load(spec.path, [f"budget.usd={found.usd}"]), tmp_path / "runs" / "a")
    assert board["endpoint"]["usd_paid"] <= (found.usd or 0.0)


def test_samples_that_are_asked_one_by_one_each_cost_their_prompt(
    server: Server, task: Write
) -> None:
    """Servers without `n` are asked once a sample, and each request bears the whole prompt."""
    few = "{few_shot: {k: 8}}"

    def most(item: str) -> estimate.Estimate:
        spec = specs.load(task(server, base=f"{PRICES}, max_tokens: 1", ladder=f"[{item}]"))
        found = estimate.at_most(spec, load(spec))
        assert found is not None
        return found

    alone = most(few)
    several = most("{few_shot+self_consistency: {few_shot: {k: 8}, self_consistency: {n: 4}}}")
    assert several.requests == 4 * alone.requests
    assert alone.usd is not None
    assert several.usd == pytest.approx(4 * alone.usd)


@pytest.mark.parametrize(
    ("endpoint", "environment", "words"),
    [
        ("http://127.0.0.1:9/v1", {"OPENAI_API_KEY": "x"}, []),
        ("http://localhost:9/v1", {}, ["OPENAI_API_KEY is not set"]),
        ("http://there:9/v1", {"OPENAI_API_KEY": "x"}, ["travel unencrypted"]),
        ("https://there/v1", {"OPENAI_API_KEY": "x"}, []),
    ],
)
def test_check_looks_at_the_key_without_showing_it(
    endpoint: str, environment: dict[str, str], words: list[str], server: Server, task: Write
) -> None:
    spec = specs.load(task(server, base="max_tokens: 9"), [f"base.endpoint={endpoint}"])
    first, *rest = estimate.notes(spec, load(spec), environment)
    assert first.endswith("requests; their price (base.price) would tell what they cost")
    assert [word in note for word, note in zip(words, rest, strict=True)] == [True] * len(words)
