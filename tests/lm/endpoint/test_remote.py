"""Answers over a real connection: what each way of misbehaving leads to."""

import json
import logging
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from savile import store
from savile.errors import EnvironmentProblem, InterruptedRun, Problem, SavileError, UnusableBase
from savile.lm.base import Asked
from savile.lm.endpoint import wire
from savile.lm.endpoint.failures import CLIPPED
from savile.lm.endpoint.purse import Purse
from savile.types import Message
from tests.endpoint_server import (
    Act,
    Exchange,
    Server,
    answers,
    closes,
    drips,
    sends,
    stalls,
    status,
    truncated,
)
from tests.lm.endpoint.conftest import KEY, Open, ask

PRICE = {"input": 1.0, "output": 10.0}
WELL: Act = answers(lambda question: question.upper())


def problem(error: pytest.ExceptionInfo[SavileError]) -> Problem:
    return error.value.problems[0]


def test_answers_stand_in_the_order_of_their_questions(opened: Open) -> None:
    with Server(WELL).running() as server:
        base = opened(server, price=PRICE)
        texts = [f"question {number}" for number in range(30)]
        found = ask(base, *texts)
    assert [answer.text for answer in found] == [text.upper() for text in texts]
    assert all(answer.seconds and answer.seconds > 0 for answer in found)
    sent = len(json.dumps(server.seen[0].body["messages"])) // 4 + 1
    assert found[0].usd == pytest.approx((1.0 * sent + 10.0 * 3) / 1e6, rel=0.2)


def test_a_request_says_model_limit_and_temperature_and_carries_the_key(opened: Open) -> None:
    with Server(WELL).running() as server:
        ask(opened(server, request={"reasoning_effort": "low"}), "a", limit=7)
    body = server.seen[0].body
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "a"}],
        "max_tokens": 7,
        "temperature": 0,
        "reasoning_effort": "low",
    }
    assert server.seen[0].headers["authorization"] == f"Bearer {KEY}"


def test_completions_are_plain_text_that_ends_at_an_empty_line(opened: Open) -> None:
    with Server(answers(lambda prompt: "yes")).running() as server:
        base = opened(server, api="completions")
        chat = [Message(role="system", content="Say."), Message(role="user", content="a?")]
        (group,) = [g for g in base.answers([chat], Asked(max_new_tokens=5)) if g]
    assert group[0][1].text == "yes"
    assert server.seen[0].path == "/v1/completions"
    assert server.seen[0].body["prompt"] == "Say.\n\na?\n"
    assert server.seen[0].body["stop"] == ["\n\n"]


def test_what_was_asked_before_is_free_also_after_a_restart(opened: Open) -> None:
    with Server(WELL).running() as server:
        first = ask(opened(server), "a", "b", "a")
        again = ask(opened(server, concurrency=2, timeout_seconds=5), "b", "a", "a")
        assert len(server.seen) == 2
        ask(opened(server), "a", limit=21)
        assert len(server.seen) == 3
    assert [answer.text for answer in first] == ["A", "B", "A"]
    assert again == [first[1], first[0], first[2]]


def test_kept_answers_hold_neither_key_nor_question(opened: Open, tmp_path: Path) -> None:
    with Server(answers(f"your key is {KEY}")).running() as server:
        (answer,) = ask(opened(server), "a private question")
    assert answer.text == "your key is [key]"
    files = [file for file in (tmp_path / "answers").rglob("*") if file.is_file()]
    assert len(files) == 1
    assert KEY not in files[0].read_text()
    assert "private" not in files[0].read_text()


def test_a_damaged_kept_answer_is_asked_again(opened: Open, tmp_path: Path) -> None:
    with Server(WELL).running() as server:
        ask(opened(server), "a")
        (file,) = (tmp_path / "answers").rglob("*.json")
        for damage in (b"{", b"[]", b'{"steps": 3}', b'{"steps": [], "text": "A", "more": 1}'):
            file.write_bytes(damage)
            before = len(server.seen)
            assert ask(opened(server), "a")[0].text == "A"
            assert len(server.seen) == before + 1


@pytest.mark.parametrize(
    "bad",
    [
        status(429, headers={"Retry-After": "0.02"}),
        status(429, headers={"Retry-After-Ms": "20"}),
        status(429, headers={"Retry-After": "soon"}),
        status(500),
        status(503, body="<html>busy</html>"),
        status(408),
        status(529, body={"detail": "overloaded"}),
        sends(b'{"error": {"message": "upstream is busy", "code": 429}}'),
        sends(b'{"error": {"message": "upstream failed", "code": "oops"}}'),
        sends(b""),
        sends(b'{"choices": [{"mess'),
        sends(b'{"choices": [], "usage": NaN}'),
        sends(b"\xff\xfe\x00"),
        sends(b"[" * 100_000),
        sends(b"{}"),
        sends(b'"yes"'),
        sends(b'{"choices": "yes"}'),
        sends(b'{"choices": [{"message": "yes"}]}'),
        sends(b'{"choices": [{"message": {"role": "assistant"}}]}'),
        truncated,
        closes,
        stalls(3.0),
        drips(100, 0.05),
    ],
)
def test_a_passing_failure_is_asked_again(bad: Act, opened: Open) -> None:
    with Server(bad, bad, WELL).running() as server:
        base = opened(server, timeout_seconds=0.4)
        assert ask(base, "a")[0].text == "A"
        assert len(server.seen) == 3
    assert base.tally()["endpoint"]["retries"] == 2


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (status(500), "HTTP 500: told to say 500"),
        (status(429, headers={"Retry-After": "900"}), "it asks to wait 900 seconds"),
        (closes, "the connection broke"),
        (truncated, "the connection broke"),
        (stalls(1.0), "no answer within 0.2 seconds"),
        (drips(100, 0.05), "no answer within 0.2 seconds"),
    ],
)
def test_an_endpoint_that_never_answers_stops_the_run(bad: Act, words: str, opened: Open) -> None:
    with Server(bad).running() as server:
        base = opened(server, timeout_seconds=0.2, give_up_seconds=0.5)
        with pytest.raises(InterruptedRun, match="the endpoint gives no answer") as error:
            ask(base, "a", "b")
    said = problem(error)
    assert words in said.found
    assert said.where == server.url
    assert "base.give_up_seconds is 0.5" in said.what
    assert "the same command goes on" in said.fix


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (sends(b"<html>login</html>"), "not JSON: '<html>login</html>'"),
        (sends(b""), "its answer is empty"),
        (sends(b'{"result": "yes"}'), "no choices[0]: not OpenAI's protocol"),
        (sends(b'{"choices": [{"message": {}}]}'), "no choices[0].message.content"),
    ],
)
def test_answers_of_a_wrong_shape_are_asked_three_times(bad: Act, words: str, opened: Open) -> None:
    with Server(bad).running() as server:
        with pytest.raises(UnusableBase, match="cannot be used") as error:
            ask(opened(server), "a")
        assert len(server.seen) == 3
    assert words in problem(error).found


def test_an_answer_without_end_is_cut_off(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MOST_BYTES", 1000)
    with Server(sends(b" " * 2000)).running() as server:
        base = opened(server, give_up_seconds=0.05)
        with pytest.raises(InterruptedRun) as error:
            ask(base, "a")
    assert "more than 1,000 bytes" in problem(error).found


@pytest.mark.parametrize(
    ("bad", "what", "found"),
    [
        (status(401), "refuses the key in OPENAI_API_KEY", "HTTP 401"),
        (status(403), "refuses the key in OPENAI_API_KEY", "HTTP 403"),
        (status(402), "no credit left", "HTTP 402"),
        (
            status(429, {"error": {"code": "insufficient_quota", "message": "pay"}}),
            "no credit left",
            "HTTP 429: pay",
        ),
        (
            status(404, {"detail": "Not Found"}),
            "does not know the model 'm', or no /chat/completions",
            "HTTP 404: Not Found",
        ),
        (
            status(400, {"error": {"code": "model_not_found", "message": "no m"}}),
            "does not know the model 'm', or no /chat/completions",
            "no m",
        ),
        (status(451), "refuses requests", "HTTP 451"),
    ],
)
def test_what_no_request_can_help_ends_the_run_at_once(
    bad: Act, what: str, found: str, opened: Open
) -> None:
    with Server(bad, models=["mm", "other"]).running() as server:
        base = opened(server, concurrency=1)
        with pytest.raises(UnusableBase) as error:
            ask(base, "a", "b", "c")
        assert len(server.seen) == 1
    assert what in problem(error).what
    assert found in problem(error).found
    assert problem(error).fix == ("It lists mm" if "know" in what else "")
    assert error.value.exit_code == 4


def test_without_a_key_it_is_said_that_none_is_set(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    unset = pytest.raises(UnusableBase, match="asks for a key, and OPENAI_API_KEY is not set")
    with Server(WELL, models=401).running() as server, unset:
        opened(server)
    with Server(status(401)).running() as server:
        with pytest.raises(UnusableBase, match="OTHER_KEY is not set"):
            ask(opened(server, key_env="OTHER_KEY"), "a")
        assert server.seen[0].headers["authorization"] == "Bearer none"


@pytest.mark.parametrize("listed", [["m"], [], 500, 200])
def test_a_wrong_address_is_doubted_where_the_model_is_listed_or_nothing_is(
    listed: Any, opened: Open
) -> None:
    with Server(status(404), models=listed).running() as server:
        base = opened(server, api="completions")
        with pytest.raises(UnusableBase) as error:
            ask(base, "a")
    assert "or no /completions" in problem(error).what
    assert problem(error).fix == "Check base.endpoint, which mostly ends in /v1, and base.model"


def test_the_key_is_in_no_log(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Server(status(500), WELL).running() as server:
        assert ask(opened(server), "a")[0].text == "A"
    assert "POST" in caplog.text
    assert KEY not in caplog.text


def test_a_place_where_nobody_listens_is_said_before_anything_is_asked(opened: Open) -> None:
    server = Server(WELL)
    with server.running():
        pass
    with pytest.raises(UnusableBase, match="cannot be reached") as error:
        opened(server)
    assert "no connection" in problem(error).found


@pytest.mark.parametrize("code", [400, 401, 404, 429, 500])
def test_a_server_that_repeats_the_key_cannot_make_it_known(code: int, opened: Open) -> None:
    body = {"error": {"message": f"bad key {KEY}\x1b[31m", "code": KEY, "param": KEY}}
    with Server(status(code, body)).running() as server, pytest.raises(SavileError) as error:
        ask(opened(server, give_up_seconds=0.05), "a")
    shown = "".join(traceback.format_exception(error.value))
    assert KEY not in shown
    assert "[key]" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("code", [400, 401])
def test_no_part_of_a_key_is_left_where_words_are_clipped(code: int, opened: Open) -> None:
    body = {"error": {"message": f"{'x' * (CLIPPED - 13)} {KEY}"}}
    with Server(status(code, body)).running() as server, pytest.raises(SavileError) as error:
        ask(opened(server, give_up_seconds=0.05), "a")
    assert KEY[:4] not in "".join(traceback.format_exception(error.value))


def test_a_key_that_is_spelled_with_escapes_is_hidden_too(opened: Open) -> None:
    spelled = "".join(f"\\u{ord(letter):04x}" for letter in KEY)
    body = {"choices": [{"message": {"content": "THE KEY"}, "finish_reason": "stop"}]}
    content = json.dumps(body).replace("THE KEY", f"it is {spelled}").encode()
    with Server(sends(content)).running() as server:
        (answer,) = ask(opened(server), "a")
    assert answer.text == "it is [key]"


def test_a_field_that_a_server_does_not_know_is_sent_under_its_other_name(opened: Open) -> None:
    def strict(exchange: Exchange) -> None:
        if "max_tokens" in exchange.body:
            refusal = {"message": "Unsupported parameter", "param": "max_tokens"}
            status(400, {"error": refusal})(exchange)
        else:
            WELL(exchange)

    with Server(strict).running() as server:
        base = opened(server, concurrency=3)
        assert [a.text for a in ask(base, "a", "b", "c", "d")] == ["A", "B", "C", "D"]
        assert server.seen[-1].body["max_completion_tokens"] == 20
        before = len(server.seen)
        ask(base, "e")
        assert len(server.seen) == before + 1


def test_log_probabilities_that_a_server_refuses_are_not_asked_again(opened: Open) -> None:
    def strict(exchange: Exchange) -> None:
        if "logprobs" in exchange.body:
            words = "Unexpected fields in the request: {'top_logprobs', 'logprobs'}"
            status(422, {"detail": words})(exchange)
        else:
            answers("no")(exchange)

    with Server(strict).running() as server:
        base = opened(server, concurrency=1)
        assert [a.label for a in ask(base, "a", "b", labels=("yes", "no"))] == ["no", "no"]
    assert len(server.seen) == 3


def test_a_refused_prompt_is_a_fault_of_the_technique(opened: Open) -> None:
    words = {"message": "maximum context length is 10", "code": "context_length_exceeded"}
    with Server(status(400, {"error": words})).running() as server:
        with pytest.raises(EnvironmentProblem, match="refuses a prompt") as error:
            ask(opened(server), "a")
        assert len(server.seen) == 1
    assert not isinstance(error.value, UnusableBase)
    assert "maximum context length is 10" in problem(error).found
    assert "Shorten the prompt" in problem(error).fix


def test_a_server_that_cannot_be_greedy_is_not_asked_by_chance_unsaid(opened: Open) -> None:
    words = {"message": "does not support 0", "param": "temperature"}
    refused = pytest.raises(EnvironmentProblem, match=r"base\.request: \{temperature: 1\}")
    with Server(status(400, {"error": words})).running() as server, refused:
        ask(opened(server), "a")


def test_a_filtered_question_has_no_answer_and_others_have(opened: Open) -> None:
    refusal = status(400, {"error": {"code": "content_filter", "message": "no"}})
    with Server(refusal, answers("", finish_reason="content_filter"), WELL).running() as server:
        base = opened(server, concurrency=1)
        assert [a.text for a in ask(base, "a", "b", "c")] == ["", "", "C"]
    assert base.tally()["endpoint"]["filtered"] == 2


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ("", ""),
        (["x"], ""),
        ([{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}], "ab"),
        ("\ud800 \n", "?"),
        (7, ""),
    ],
)
def test_contents_of_every_kind_are_read_as_text(content: Any, text: str, opened: Open) -> None:
    body = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
    with Server(sends(body)).running() as server:
        assert ask(opened(server), "a")[0].text == text


# ── usage ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("usage", "doubt", "prompt", "written"),
    [
        (None, "no usage", 400 + 16 + 64, 31),
        ("lots", "no usage", 480, 31),
        ({"prompt_tokens": -3, "completion_tokens": 2}, "no usage", 480, 31),
        ({"prompt_tokens": 2.5, "completion_tokens": 2}, "no usage", 480, 31),
        ({"prompt_tokens": True, "completion_tokens": 2}, "no usage", 480, 31),
        ({"prompt_tokens": 0, "completion_tokens": 8}, "too few prompt", 480, 8),
        ({"prompt_tokens": 9000, "completion_tokens": 8}, "more prompt tokens", 9000, 8),
        ({"prompt_tokens": 100, "completion_tokens": 0}, "too few written", 100, 31),
        ({"prompt_tokens": 100, "completion_tokens": 999}, "more written", 100, 999),
        (
            {"prompt_tokens": 100, "completion_tokens": 8, "total_tokens": 50},
            "the total is below",
            100,
            8,
        ),
        ({"prompt_tokens": 100, "completion_tokens": 8, "total_tokens": 130}, None, 100, 8),
    ],
)
def test_an_impossible_usage_is_noticed_and_paid_at_its_most(
    usage: Any, doubt: str | None, prompt: int, written: int, opened: Open
) -> None:
    question, answer = "ab c " * 80, "d e f g h " * 3
    with Server(answers(answer, usage=usage)).running() as server:
        base = opened(server, price=PRICE)
        found = ask(base, question, limit=50)[0]
    doubts: Mapping[str, int] = base.tally()["endpoint"]["doubts"]
    assert (found.prompt_tokens, found.completion_tokens) == (prompt, written)
    assert found.usd == pytest.approx((prompt + 10 * written) / 1e6)
    assert [name.startswith(doubt or "") for name in doubts] == [True] * (doubt is not None)


# ── money ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("concurrency", [1, 8])
def test_the_ceiling_is_never_passed_and_nearly_reached(
    concurrency: int, opened: Open, tmp_path: Path
) -> None:
    file = tmp_path / "payments.jsonl"
    purse = Purse(0.02, record=lambda payment: store.append_event(file, payment))
    texts = [f"question {number}" for number in range(200)]
    with Server(answers("words " * 3)).running() as server:
        base = opened(
            server, price={"input": 10, "output": 20}, concurrency=concurrency, purse=purse
        )
        most = base.most_usd([Message(role="user", content=texts[-1])], Asked(max_new_tokens=20))
        with pytest.raises(InterruptedRun, match=r"before the ceiling of 0\.02 USD") as error:
            ask(base, *texts)
        sent = len(server.seen)
    assert 0.02 - most < purse.paid <= 0.02
    assert sum(e["usd"] for e in store.read_events(file)) == pytest.approx(purse.paid)
    assert problem(error).where == "budget.usd"
    assert error.value.exit_code == 75
    assert sent < 200


def test_a_run_goes_on_with_more_money_and_pays_for_nothing_twice(opened: Open) -> None:
    texts = [f"question {number}" for number in range(40)]
    price = {"input": 10, "output": 20}
    with Server(WELL).running() as server:
        purse = Purse(0.004)
        with pytest.raises(InterruptedRun):
            ask(opened(server, price=price, purse=purse), *texts)
        found = ask(opened(server, price=price, purse=Purse(1.0, paid=purse.paid)), *texts)
    assert [a.text for a in found] == [t.upper() for t in texts]
    asked = [exchange.question for exchange in server.seen]
    assert sorted(asked) == sorted(texts)


def test_an_attempt_that_may_be_billed_is_paid_at_its_most(opened: Open) -> None:
    purse = Purse()
    with Server(truncated, stalls(1.0), status(500), WELL).running() as server:
        base = opened(server, price=PRICE, purse=purse, timeout_seconds=0.3)
        (answer,) = ask(base, "a")
        most = base.most_usd([Message(role="user", content="a")], Asked(max_new_tokens=20))
    assert answer.usd is not None
    assert purse.paid == pytest.approx(2 * most + answer.usd)


# ── many at a time ───────────────────────────────────────────────────────────────────────────


def test_no_more_requests_run_at_a_time_than_are_allowed(opened: Open) -> None:
    running, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(3)

    def count(exchange: Exchange) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(10)
        with lock:
            running -= 1
        WELL(exchange)

    with Server(count).running() as server:
        ask(opened(server, concurrency=3), *map(str, range(12)))
    assert most == 3


def test_closing_the_answers_stops_what_has_not_begun(opened: Open) -> None:
    chats = [[Message(role="user", content=str(number))] for number in range(50)]
    with Server(WELL).running() as server:
        groups = opened(server, concurrency=2).answers(chats, Asked())
        while not next(groups):
            pass
        groups.close()
        sent = len(server.seen)
        assert sent < 50
        assert not [t for t in threading.enumerate() if t.name.startswith("savile-ask")]


def test_a_stalled_endpoint_lets_its_caller_look_up(opened: Open) -> None:
    release = threading.Event()

    def wait(exchange: Exchange) -> None:
        release.wait(10)
        WELL(exchange)

    with Server(wait).running() as server:
        chats = [[Message(role="user", content="a")]]
        groups = opened(server).answers(chats, Asked())
        assert next(groups) == []
        release.set()
        assert [answer.text for group in groups for _, answer in group] == ["A"]


# ── labels ───────────────────────────────────────────────────────────────────────────────────


def test_labels_are_named_in_the_prompt_and_read_from_the_text(opened: Open) -> None:
    with Server(answers("**Yes.**")).running() as server:
        (answer,) = ask(opened(server), "a", labels=("yes", "no"))
    assert answer.label == "yes"
    assert answer.text == "**Yes.**"
    named = server.seen[0].body["messages"][0]
    assert named["role"] == "system"
    assert named["content"].endswith("nothing else:\nyes\nno")
    assert server.seen[0].body["top_logprobs"] == 20


def test_a_text_that_is_no_label_is_read_from_log_probabilities(opened: Open) -> None:
    top = [
        {"token": "Hmm", "logprob": -0.1},
        {"token": "no", "logprob": -2.0},
        {"token": "yes", "logprob": -4.0},
    ]
    steps = {"content": [{"token": "Hmm", "logprob": -0.1, "top_logprobs": top}]}
    with Server(answers("Hmm", logprobs=steps)).running() as server:
        base = opened(server)
        assert ask(base, "a", labels=("yes", "no"))[0].label == "no"
        assert ask(base, "a", labels=("maybe", "perhaps"))[0].label is None
    assert base.tally()["endpoint"]["by_logprobs"] == 1


def test_log_probabilities_of_completions_are_read_too(opened: Open) -> None:
    steps = {
        "tokens": ["Hmm"],
        "token_logprobs": [-0.1],
        "top_logprobs": [{"Hmm": -0.1, " no": -2.0, " yes": -3.0, "x": None}],
    }
    with Server(answers("Hmm", logprobs=steps)).running() as server:
        base = opened(server, api="completions")
        assert ask(base, "a", labels=("yes", "no"))[0].label == "no"
    assert server.seen[0].body["logprobs"] == 5
