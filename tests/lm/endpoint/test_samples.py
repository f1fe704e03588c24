"""Several samples of a chat, and stop strings, at servers that know them and at others."""

import json
from typing import Any

import pytest

from savile.lm.base import Answer, Asked
from savile.lm.endpoint import Endpoint
from savile.lm.endpoint.purse import Purse
from savile.types import Message
from tests.endpoint_server import Exchange, Server, answers, status
from tests.lm.endpoint.conftest import Open

PRICE = {"input": 1.0, "output": 10.0}


def told(exchange: Exchange, n: int) -> None:
    """Answer with n texts that hold the question, the seed and their number."""
    seed = exchange.body.get("seed")
    texts = [f"{exchange.question} {seed} {number}" for number in range(n)]
    chat = exchange.path.endswith("/chat/completions")
    choices: list[dict[str, Any]] = [
        {"index": i, "finish_reason": "stop"}
        | ({"message": {"role": "assistant", "content": t}} if chat else {"text": t})
        for i, t in enumerate(texts)
    ]
    counts = {"prompt_tokens": 10, "completion_tokens": 7 * n, "total_tokens": 10 + 7 * n}
    body = {"model": "served", "choices": choices, "usage": counts}
    exchange.send(200, json.dumps(body).encode())


def several(exchange: Exchange) -> None:
    """Give as many as are asked."""
    told(exchange, exchange.body.get("n", 1))


def single(exchange: Exchange) -> None:
    """Give one, whatever is asked."""
    told(exchange, 1)


def refuses(field: str) -> Any:
    """Refuse a field, else answer."""

    def act(exchange: Exchange) -> None:
        if field in exchange.body:
            words = {"message": f"Unsupported parameter: '{field}'", "param": field}
            status(400, {"error": words})(exchange)
        else:
            several(exchange)

    return act


def ask(base: Endpoint, text: str, **how: Any) -> list[Answer]:
    chat = [Message(role="user", content=text)]
    given = {"max_new_tokens": 20, "temperature": 0.7, **how}
    groups = list(filter(None, base.answers([chat], Asked(**given))))
    assert len(groups) == 1
    return [answer for _, answer in groups[0]]


def test_what_is_asked_stands_in_the_request(opened: Open) -> None:
    with Server(several).running() as server:
        ask(opened(server), "a", n=3, top_p=0.9, seed=4, stop=("\n", "END"))
        ask(opened(server), "a", temperature=0.0)
    first, second = (exchange.body for exchange in server.seen)
    assert (first["temperature"], first["top_p"], first["n"]) == (0.7, 0.9, 3)
    assert first["stop"] == ["\n", "END"]
    assert 0 <= first["seed"] < 2**31
    assert second["temperature"] == 0
    assert not {"top_p", "n", "seed", "stop"} & set(second)


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_samples_come_in_one_request_that_bears_the_prompt_once(api: str, opened: Open) -> None:
    with Server(several).running() as server:
        found = ask(opened(server, price=PRICE, api=api), "a", n=4)
        assert len(server.seen) == 1
    assert [answer.text[-1] for answer in found] == ["0", "1", "2", "3"]
    assert sum(answer.prompt_tokens for answer in found) == found[0].prompt_tokens == 10
    assert sum(answer.completion_tokens for answer in found) == 28
    assert sum(answer.usd or 0.0 for answer in found) == pytest.approx((10 + 280) / 1e6)
    assert found[0].seconds
    assert [answer.seconds for answer in found[1:]] == [0.0] * 3


@pytest.mark.parametrize(("act", "wasted"), [(single, 0), (refuses("n"), 1)])
def test_a_server_that_gives_one_at_a_time_is_asked_as_often_with_other_seeds(
    act: Any, wasted: int, opened: Open
) -> None:
    with Server(act).running() as server:
        base = opened(server, price=PRICE)
        found = ask(base, "a", n=4)
        assert len(server.seen) == 4 + wasted
        assert len({answer.text for answer in found}) == 4
        assert sum(answer.prompt_tokens for answer in found) == 40
        assert sum(answer.usd or 0.0 for answer in found) == pytest.approx(4 * (10 + 70) / 1e6)
        ask(base, "b", n=2)
        assert len(server.seen) == 6 + wasted


@pytest.mark.parametrize("act", [several, single])
def test_samples_are_nested_and_what_was_asked_is_free(act: Any, opened: Open) -> None:
    with Server(act).running() as server:
        three = ask(opened(server, price=PRICE), "a", n=3)
        before = len(server.seen)
        nine = ask(opened(server, price=PRICE), "a", n=9)
        asked = len(server.seen) - before
        again = [ask(opened(server, price=PRICE), "a", n=n) for n in (3, 5, 9)]
        assert len(server.seen) == before + asked
    assert asked == (1 if act is several else 6)
    assert [answer.text for answer in nine[:3]] == [answer.text for answer in three]
    assert [[a.text for a in found] for found in again] == [
        [a.text for a in nine[:n]] for n in (3, 5, 9)
    ]
    prompts = [sum(answer.prompt_tokens for answer in found) for found in (three, nine)]
    assert prompts == ([10, 10] if act is several else [30, 90])


@pytest.mark.parametrize(
    "change", [{"temperature": 0.8}, {"top_p": 0.9}, {"seed": 1}, {"stop": ("x",)}]
)
def test_an_answer_is_kept_for_what_was_asked(change: dict[str, Any], opened: Open) -> None:
    with Server(several).running() as server:
        first = ask(opened(server), "a", n=2)
        assert ask(opened(server), "a", n=2) == first
        assert len(server.seen) == 1
        ask(opened(server), "a", n=2, **change)
        assert len(server.seen) == 2


def test_a_seed_of_the_spec_makes_no_two_samples_one(opened: Open) -> None:
    with Server(single).running() as server:
        found = ask(opened(server, request={"seed": 7}), "a", n=3)
    assert len({answer.text for answer in found}) == 3


def test_a_server_without_seeds_is_asked_without(opened: Open) -> None:
    with Server(refuses("seed")).running() as server:
        found = ask(opened(server), "a", n=3)
        assert len(server.seen) == 2
    assert [answer.text for answer in found] == ["a None 0", "a None 1", "a None 2"]


@pytest.mark.parametrize("refused", [True, False])
def test_a_text_is_cut_here_where_the_server_does_not(refused: bool, opened: Open) -> None:
    def act(exchange: Exchange) -> None:
        if refused and "stop" in exchange.body:
            status(400, {"error": {"message": "no", "param": "stop"}})(exchange)
        else:
            answers("one two\nthree")(exchange)

    with Server(act).running() as server:
        (answer,) = ask(opened(server), "a", stop=("two", "\n"))
        assert len(server.seen) == 1 + refused
        (whole,) = ask(opened(server), "a")
    assert answer.text == "one"
    assert whole.text == "one two\nthree"
    assert answer.completion_tokens == whole.completion_tokens


def test_plain_texts_end_at_an_empty_line_too(opened: Open) -> None:
    with Server(answers("yes\n\nno END")).running() as server:
        (answer,) = ask(opened(server, api="completions"), "a", stop=("END",))
        assert server.seen[0].body["stop"] == ["END", "\n\n"]
    assert answer.text == "yes"


def test_money_is_set_aside_for_all_samples(opened: Open) -> None:
    chat = [Message(role="user", content="a")]
    with Server(several).running() as server:
        base = opened(server, price=PRICE)
        one, five = (
            base.most_usd(chat, Asked(max_new_tokens=20, n=n, temperature=1.0)) for n in (1, 5)
        )
        assert five - one == pytest.approx(4 * 20 * 10 / 1e6)
        ask(opened(server, price=PRICE, purse=Purse(five * 1.001)), "a", n=5, temperature=1.0)


def test_labels_are_read_from_every_sample(opened: Open) -> None:
    texts = iter(["yes", "No.", "perhaps"])
    with Server(lambda exchange: exchange.say(next(texts))).running() as server:
        found = ask(opened(server, concurrency=1), "a", n=3, labels=("yes", "no"))
    assert [answer.label for answer in found] == ["yes", "no", None]
