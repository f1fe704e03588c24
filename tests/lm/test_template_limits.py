"""A template that never ends, fills the memory or floods its output is refused; others are not."""

from pathlib import Path

import pytest

from savile.errors import IntegrityError
from savile.lm import template_limits
from savile.lm.template_limits import check
from tests import tiny

FOREVER = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
GROWING = (
    "{% set ns = namespace(x='aa') %}{% for m in messages %}{% set ns.x = ns.x ~ ns.x ~ ns.x %}"
    "{% endfor %}{{ ns.x }}"
)
"""Tame for a question, 3 to the power of 34 for sixteen demonstrations."""
RECURSIVE = (
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}"
)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (FOREVER, "takes more than 1 s of computing"),
        (RECURSIVE, "takes more than 1 s of computing"),
        ("{{ 'a' * 10 ** 10 }}", "needs more than 1024 MiB"),
        (GROWING, "needs more than 1024 MiB"),
        ("{{ 'x'.ljust(5 * 10 ** 6) }}", "writes 5,000,000 characters"),
    ],
)
def test_a_hostile_template_is_refused(
    template: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_limits, "CPU_SECONDS", 1)
    with pytest.raises(IntegrityError, match=f"somewhere: the base's chat template {words}"):
        check(tiny.tokenizer(template), Path("somewhere"))


@pytest.mark.parametrize("template", [tiny.CHATML, tiny.NO_SYSTEM, "{% for", None])
def test_a_template_is_not_refused_for_refusing_a_chat(template: str | None) -> None:
    assert template_limits.trouble(tiny.tokenizer(template)) is None


def test_the_longest_chat_that_is_tried_has_sixteen_demonstrations() -> None:
    lengths = {len(chat) for chat in template_limits.chats()}
    assert {1, 2 * 16 + 1, template_limits.MOST_TURNS} <= lengths
    assert max(lengths) == template_limits.MOST_TURNS
