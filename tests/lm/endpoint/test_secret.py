import pytest

from savile.errors import EnvironmentProblem
from savile.lm.endpoint.failures import plain, said
from savile.lm.endpoint.secret import Secret

KEY = "sk-0123456789abcdef"


def test_a_key_is_shown_to_nobody() -> None:
    secret = Secret("SOME_KEY", {"SOME_KEY": f" {KEY}\n"})
    assert secret.reveal() == KEY
    assert secret.given
    assert KEY not in f"{secret} {secret!r}"
    assert secret.hide(f"a {KEY} b{KEY}") == "a [key] b[key]"


@pytest.mark.parametrize("environment", [{}, {"SOME_KEY": ""}, {"SOME_KEY": "  "}])
def test_without_a_key_another_ones_is_not_sent(environment: dict[str, str]) -> None:
    secret = Secret("SOME_KEY", {**environment, "OPENAI_API_KEY": KEY})
    assert not secret.given
    assert secret.reveal() == "none"


def test_a_placeholder_changes_no_answer() -> None:
    assert Secret("K", {"K": "EMPTY"}).hide("EMPTY basket") == "EMPTY basket"


@pytest.mark.parametrize("wrong", ["sk 1234567890", "sk-12345\n67890", "sk-1234567890é", "a\x00b"])
def test_a_key_that_cannot_be_sent_is_not_repeated(wrong: str) -> None:
    with pytest.raises(EnvironmentProblem) as error:
        Secret("SOME_KEY", {"SOME_KEY": wrong})
    assert wrong not in str(error.value)
    assert "SOME_KEY" in str(error.value)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"error": {"message": "m", "code": "c", "param": "p"}}, ("m", "c", "p")),
        ({"message": "m", "type": "t", "param": None}, ("m", "t", "")),
        ({"error": "text"}, ("text", "", "")),
        ({"detail": "gone"}, ("gone", "", "")),
        ({"detail": [{"loc": ["body"]}]}, ("[{'loc': ['body']}]", "", "")),
        ("plain\n text", ("plain text", "", "")),
        (None, ("None", "", "")),
        ([1], ("[1]", "", "")),
    ],
)
def test_errors_of_every_shape_are_told(body: object, told: tuple[str, str, str]) -> None:
    assert said(body) == told


def test_a_servers_words_move_no_cursor_and_fill_no_screen() -> None:
    assert plain("a\x1b[2J\r\nb\u202e") == "a [2J b"
    assert len(plain("x" * 10_000)) == 300
