from savile.lm.endpoint.failures import Refusal
from savile.lm.endpoint.question import Dialect, Question, as_text
from savile.spec.endpoint import EndpointSection
from savile.types import Message

CHAT = [
    Message(role="system", content="Say."),
    Message(role="user", content="1?"),
    Message(role="assistant", content="one"),
    Message(role="user", content="2?"),
]
BASE = EndpointSection(model="m", endpoint="http://here/v1")


def with_(**settings: object) -> EndpointSection:
    return EndpointSection.model_validate({"model": "m", "endpoint": "http://here/v1", **settings})


def test_plain_text_has_turns_divided_by_empty_lines() -> None:
    assert as_text(CHAT) == "Say.\n\n1?\none\n\n2?\n"


def test_the_spec_may_add_fields_and_overrule_the_temperature() -> None:
    base = with_(request={"temperature": 1, "seed": 3})
    fields = Question(chat=CHAT, max_tokens=5).fields(base)
    assert (fields["temperature"], fields["seed"], fields["max_tokens"]) == (1, 3, 5)


def test_an_answer_is_kept_by_all_that_can_change_it() -> None:
    question = Question(chat=CHAT, max_tokens=5)
    keys = {
        question.key(BASE),
        Question(chat=CHAT[1:], max_tokens=5).key(BASE),
        Question(chat=CHAT, max_tokens=6).key(BASE),
        Question(chat=CHAT, max_tokens=5, labels=("a", "b")).key(BASE),
        question.key(with_(model="n")),
        question.key(with_(endpoint="http://there/v1")),
        question.key(with_(api="completions")),
        question.key(with_(request={"seed": 1})),
    }
    assert len(keys) == 8


def test_an_answer_is_kept_whatever_the_way_of_asking() -> None:
    question = Question(chat=CHAT, max_tokens=5)
    other = with_(key_env="OTHER", concurrency=1, timeout_seconds=1, give_up_seconds=2)
    assert question.key(other) == question.key(BASE)
    assert question.key(with_(price={"input": 1, "output": 2})) == question.key(BASE)


def test_a_dialect_is_learned_once_and_only_where_there_is_a_way_around() -> None:
    dialect, sent = Dialect(), ["model", "max_tokens", "logprobs", "top_logprobs"]
    assert not dialect.learns(Refusal("no", field="model"), sent)
    assert not dialect.learns(Refusal("max_tokens is fine", field="messages"), sent)
    assert dialect.learns(Refusal("unknown field: 'logprobs'"), sent)
    assert dialect.spoken(dict.fromkeys(sent, 1)) == {"model": 1, "max_tokens": 1}
    assert dialect.learns(Refusal("use another", field="max_tokens"), sent)
    assert dialect.spoken(dict.fromkeys(sent, 1)) == {"model": 1, "max_completion_tokens": 1}
    again = ["model", "max_completion_tokens"]
    assert not dialect.learns(Refusal("max_tokens is too large"), again)
