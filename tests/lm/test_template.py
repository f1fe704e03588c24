"""Chats become the ids a server builds for them, and user text never becomes a control token."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from savile.errors import EnvironmentProblem, IntegrityError
from savile.lm.template import PLAIN, Template
from savile.types import Message
from tests import tiny

TEMPLATES = {"chatml": tiny.CHATML, "no_system": tiny.NO_SYSTEM, "plain": None}
LLAMA2 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
"""Drops a system message silently, and holds the letters of the probe elsewhere."""


@pytest.fixture(params=sorted(TEMPLATES))
def template(request: pytest.FixtureRequest) -> Template:
    return Template(tiny.tokenizer(TEMPLATES[request.param]))


def chat(system: str, *turns: str) -> list[Message]:
    roles = ["user", "assistant"]
    messages = [Message(role="system", content=system)] if system else []
    for at, turn in enumerate(turns):
        messages.append(Message(role=roles[at % 2], content=turn))  # type: ignore[arg-type]
    return messages


normal = st.text(st.characters(codec="utf-8", exclude_characters="<|>"), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(normal, normal, normal, normal)
def test_prompt_and_completion_are_the_whole_chat(s: str, u: str, a: str, q: str) -> None:
    for text in TEMPLATES.values():
        made = Template(tiny.tokenizer(text))
        messages = made._merged(chat(s, u, a, q))
        ids = [*made.encode_prompt(chat(s, u, a, q)), *made.encode_completion("the answer")]
        rendered = made._render(
            [*messages, Message(role="assistant", content="the answer")], generate=False
        )
        whole = made.tokenizer.encode(rendered, add_special_tokens=False)
        assert whole[: len(ids)] == ids
        assert ids[-1] == made.end
        assert ids.count(1) == 1
        assert ids[0] == 1


@pytest.mark.parametrize("special", tiny.SPECIAL)
@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_special_tokens_in_texts_are_plain_text(
    template: Template, special: str, role: str
) -> None:
    text = f"a {special} b{special}"
    turns = {"system": "s", "user": "u", "assistant": "a"}
    messages = chat(*(text if r == role else t for r, t in turns.items()), "q")
    harmless = chat(*("harmless" if r == role else t for r, t in turns.items()), "q")
    ids, other = template.encode_prompt(messages), template.encode_prompt(harmless)
    specials = set(range(len(tiny.SPECIAL)))
    assert [i for i in ids if i in specials] == [i for i in other if i in specials]
    assert text in template.tokenizer.decode(ids)
    completion = template.encode_completion(text)
    assert specials.isdisjoint(completion[:-1])
    assert template.tokenizer.decode(completion[:-1]) == text


def test_special_text_changes_only_its_own_turn(template: Template) -> None:
    ids = template.encode_prompt(chat("s", "u", "</s>", "q"))
    other = template.encode_prompt(chat("s", "u", "?bcd", "q"))
    assert len(ids) == len(other)
    assert sum(a != b for a, b in zip(ids, other, strict=True)) == 4


def test_without_a_system_role_its_text_opens_the_first_question() -> None:
    made = Template(tiny.tokenizer(tiny.NO_SYSTEM))
    assert not made.system_role
    text = made.tokenizer.decode(made.encode_prompt(chat("Be terse.", "hello")))
    assert "user\nBe terse.\n\nhello" in text


@pytest.mark.parametrize("extra", ["", "{# x #}", "<ctx>x y</ctx>"])
def test_a_system_text_that_a_template_drops_is_not_lost(extra: str) -> None:
    made = Template(tiny.tokenizer(LLAMA2 + extra))
    assert not made.system_role
    text = made.tokenizer.decode(made.encode_prompt(chat("Be terse.", "hello")))
    assert "Be terse.\n\nhello" in text


def test_a_base_without_a_template_gets_a_plain_one() -> None:
    made = Template(tiny.tokenizer(None))
    assert made.plain
    assert made.tokenizer.chat_template == PLAIN
    text = made.tokenizer.decode(made.encode_prompt(chat("Be terse.", "hi", "ho", "hello")))
    assert text == "<s>Be terse.\n\nhi\nho</s>\n\nhello\n"
    assert made.encode_completion("")[-1] == made.end == 2


def test_the_end_of_turn_is_the_templates() -> None:
    assert Template(tiny.tokenizer()).end == 4
    assert not Template(tiny.tokenizer()).plain


@pytest.mark.parametrize(
    "broken",
    [
        "{% for m in messages %}",
        "{{ messages[0].missing.deeper }}",
        "{{ raise_exception('no') }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('touch canary') }}",
    ],
)
def test_a_broken_or_hostile_template_is_a_clear_error(broken: str) -> None:
    with pytest.raises(IntegrityError, match="chat template cannot be rendered"):
        Template(tiny.tokenizer(broken))


def test_a_tokenizer_without_an_end_is_refused() -> None:
    raw = tiny.tokenizer("{% for m in messages %}{{ m.content }}{% endfor %}")
    raw.eos_token = None
    with pytest.raises(EnvironmentProblem, match="no token that ends an answer"):
        Template(raw)


def test_placeholders_and_braces_are_text(template: Template) -> None:
    text = "{{ 7 * 7 }} {placeholder} {% if x %}"
    assert text in template.tokenizer.decode(template.encode_prompt(chat("", text)))


def test_a_chat_is_rendered_once_as_long_as_it_is_kept(
    template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[object] = []
    render = template._render

    def count(messages: list[Message], *, generate: bool) -> str:
        rendered.append(messages)
        return render(messages, generate=generate)

    monkeypatch.setattr(template, "_render", count)
    one = template.encode_prompt(chat("", "x"))
    one.append(-1)  # what a caller does with its ids is not kept
    assert template.encode_prompt(chat("", "x")) == one[:-1]
    assert template.encode_prompt(chat("", "y")) != one[:-1]
    assert template.encode_completion("x") == template.encode_completion("x") != one[:-1]
    assert len(rendered) == 2
    monkeypatch.setattr("savile.lm.template.MOST_KEPT", 1)
    assert [template.encode_prompt(chat("", t)) for t in "zxz"][1] == one[:-1]
    assert len(rendered) == 5
