"""The page: whole, closed off from the network, and inert whatever text is in the board."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from savile.report import html
from tests.report.sample import document

PAYLOADS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "</style><svg onload=alert(1)>",
    "</title></script><iframe src=javascript:alert(1)>",
    "javascript:alert(1)",
    "<!--",
    "&lt;b&gt;\x00\u202e",
)
VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})


class Page(HTMLParser):
    """Elements, attributes and texts of a page; fails on tags that do not close."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.inside: dict[str, list[str]] = {}
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.inside.setdefault(self.open[-1], []).append(data)

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def poisoned(value: Any, payload: str) -> Any:
    """Return the document with the payload in every text and every key of free mappings."""
    if isinstance(value, str):
        return payload + value
    if isinstance(value, list):
        return [poisoned(v, payload) for v in value]
    if isinstance(value, dict):
        free = {"settings", "machine", "versions", "quarantined"}
        return {
            k: {payload + str(i): poisoned(v, payload) for i, v in enumerate(value[k].values())}
            if k in free and isinstance(value[k], dict)
            else value[k]
            if k in ("status", "kind")
            else poisoned(value[k], payload)
            for k in value
        }
    return value


def test_the_page_has_everything() -> None:
    page = html.render(document())
    for part in (
        "No single winner",
        "0.907 [0.873, 0.935]",
        "chain_of_thought",
        "needs rationales",
        "p_tuning, prompt_tuning(tokens=20): still improving when its budget ended",
        "my card was charged twice",
        "2,012",
        "7 empty, 5 duplicate",
        "read as CSV with header",
        "learning_rate",
        "AMD EPYC",
        "5 seeds",
    ):
        assert part in page


def test_the_policy_allows_exactly_the_inlined_style_and_script() -> None:
    page = Page(html.render(document()))
    policy = next(
        a["content"]
        for a in page.attributes("meta")
        if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (text,) = page.inside[tag]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_nothing_points_outside() -> None:
    page = html.render(document())
    names = {name for _, attributes in Page(page).tags for name in attributes}
    assert not names & {"src", "href", "xlink:href", "action", "srcset", "style", "data"}
    assert not [name for name in names if name.startswith("on")]
    assert not re.search(r"https?://|url\(|@import|\bfetch\(|XMLHttpRequest|innerHTML", page)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_text_of_users_and_models_is_inert_everywhere(payload: str) -> None:
    plain = [tag for tag, _ in Page(html.render(document())).tags]
    page = Page(html.render(poisoned(document(), payload)))
    assert {tag for tag, _ in page.tags} <= set(plain)
    assert len(page.attributes("script")) == 1
    assert not [n for _, attributes in page.tags for n in attributes if n.startswith("on")]


def test_control_characters_are_shown_as_text() -> None:
    found = document()
    found["task"] = "a\x00b\u202ec"
    assert r"a\x00b\u202ec" in html.render(found)


def test_a_fresh_reader_finds_what_heads_and_marks_mean() -> None:
    page = Page(html.render(document()))
    heads = [head for head in page.inside["th"] if head not in ("input", "expected", "got")]
    terms = page.inside["dt"]
    assert set(terms) <= set(heads)
    assert {"request, median", "request, 95 %", "accuracy [95 %]"} <= set(terms)
    assert len(page.inside["dd"]) == len(terms)
    assert page.inside["small"] == ["highest", "tied", "tied", "baseline", "baseline"]
    opened = [a for a in page.attributes("details") if "open" in a]
    assert len(opened) == 1
    assert any("got most wrong" in text for text in page.inside["p"])


def test_pictures_say_what_they_show() -> None:
    page = Page(html.render(document()))
    pictures = page.attributes("svg")
    assert len(pictures) == 5
    assert all(p["role"] == "img" and p["aria-label"] for p in pictures)
    assert len(page.attributes("desc")) == 5
    assert all(a.get("scope") in ("row", "col") for a in page.attributes("th"))


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"board": [{}], "verdict": {}, "data": {"fates": [{}], "notes": [None]}},
        {"board": [{"score": 0.5}]},
        {"board": [{"score": 0.0, "low": 0.0, "high": 0.0}, {"score": 0.0}]},
        {
            "board": [
                {"score": 27.3, "low": 20, "high": 33.0, "seconds": 3},
                {"score": 1, "seconds": 3},
            ]
        },
        {"board": [{"score": 0.5, "seconds": 1e-9}, {"score": 0.4, "seconds": 1e12}]},
    ],
)
def test_documents_that_lack_things_make_a_page(found: dict[str, Any]) -> None:
    page = html.render(found)
    Page(page)
    assert not re.search(r"\b(nan|inf)\b", page)
    assert "None" not in page


def test_every_field_may_be_none_or_missing() -> None:
    for name in document()["board"][0]:
        none, missing = document(), document()
        for row in none["board"]:
            row[name] = None
        for row in missing["board"]:
            del row[name]
        for found in (none, missing):
            assert len(Page(html.render(found)).attributes("main")) == 1
    for name in document():
        found = document()
        del found[name]
        assert len(Page(html.render(found)).attributes("main")) == 1


def test_the_same_document_gives_the_same_page() -> None:
    assert html.render(document()) == html.render(document())
