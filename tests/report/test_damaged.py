"""Boards damaged by hand, cut short or hostile: both reports stay whole and say what they can."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from savile.report import html, reading, terminal
from tests.report.sample import document
from tests.report.test_html import Page

ELEMENTS = (
    "<script>alert(1)</script>",
    "<ScRiPt >alert(1)</sCrIpT>",
    "<script\n>alert(1)</script\t>",
    "</script><script>alert(1)</script>",
    "</style><style>*{background:red}</style>",
    "</title><body onload=alert(1)>",
    "</desc></title></svg><script>alert(1)</script>",
    "]]><script>alert(1)</script>",
    "--><script>alert(1)</script><!--",
    "<!--<script>",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?xml version='1.0'?><x onclick=alert(1)>",
    "<img src=x onerror=alert(1)>",
    "<img/src=x/onerror=alert(1)//",
    "<svg/onload=alert(1)>",
    "<svg><animate onbegin=alert(1) attributeName=x>",
    "<svg><foreignObject><iframe srcdoc='<script>alert(1)</script>'>",
    "<iframe src=javascript:alert(1)>",
    "<object data=javascript:alert(1)>",
    "<embed src=//evil.test>",
    "<link rel=stylesheet href=//evil.test>",
    "<base href=//evil.test>",
    "<meta http-equiv=refresh content='0;url=//evil.test'>",
    "<form action=//evil.test><button autofocus onfocus=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<input autofocus onfocus=alert(1)>",
    "<a href='javascript:alert(1)'>x</a>",
    "<math><mtext><mglyph><style><img src=x onerror=alert(1)>",
    "<template><script>alert(1)</script></template>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
)
ATTRIBUTES = (
    '" onmouseover="alert(1)',
    "' onmouseover='alert(1)",
    "` onmouseover=alert(1)",
    '" style="background:red" x="',
    '"></th><th onclick=alert(1)>',
    "x\" data-v='0' autofocus onfocus=alert(1) y=\"",
    "&#34; onclick=alert(1)",
    '\x00" onclick=alert(1)',
)
PAYLOADS = (*ELEMENTS, *ATTRIBUTES)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from([10**400, 1e308, -1e308, -1, 0]),
    st.text(max_size=20),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
        ),
        max_leaves=4,
    ),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a document, of lists the first two."""
    if path:
        yield path
    if isinstance(value, dict):
        keys: list[Any] = list(value)
    else:
        keys = list(range(min(2, len(value)))) if isinstance(value, list) else []
    for key in keys:
        yield from places(value[key], (*path, key))


PLACES = list(places(document()))


def put(found: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        if not isinstance(found, dict | list):
            return
        found = found[key] if isinstance(found, dict) or key < len(found) else None
    if isinstance(found, dict) or (isinstance(found, list) and path[-1] < len(found)):
        found[path[-1]] = value


def printed(found: dict[str, Any]) -> str:
    stream = io.StringIO()
    terminal.render(found, Console(file=stream, width=100))
    return stream.getvalue()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=3))
def test_any_value_in_any_place_is_shown_or_left_out(
    changes: list[tuple[tuple[Any, ...], Any]],
) -> None:
    found = document()
    for path, value in sorted(changes, key=lambda change: -len(change[0])):
        put(found, path, value)
    Page(html.render(found)).attributes("table")
    shown = printed(found)
    assert reading.clean(shown) == shown


@pytest.mark.parametrize("value", [1e308, -1e308, 1e31, 10**400, float("nan"), float("-inf")])
@pytest.mark.parametrize("name", ["score", "low", "high", "seconds", "usd_per_1000"])
def test_numbers_that_nothing_measures_are_missing(name: str, value: float) -> None:
    found = document()
    found["board"][1][name] = value
    assert "No single winner" in printed(found)
    Page(html.render(found))


def hostile(payload: str) -> dict[str, Any]:
    """Return the sample with the payload in every kind of text that data and models write."""
    found = document()
    board, data = found["board"], found["data"]
    found["task"] = found["base"] = found["metric"] = payload
    board[0]["technique"] = found["verdict"]["winner"] = board[-2]["technique"] = payload
    board[0]["mistakes"] = [{"input": payload, "expected": payload, "got": payload}]
    board[0]["settings"] = found["versions"] = {payload: payload}
    board[0]["kind"] = board[-1]["status"] = board[-1]["reason"] = payload
    data["notes"] = [payload]
    data["fates"][0] = {"stage": payload, f"used_{payload}": 1, "quarantined": {payload: 1}}
    # A line break of the verdict starts a sentence of its own.
    found["verdict"]["text"] = f"{reading.line(payload)}\n{reading.line(payload)}"
    return found


def skeleton(page: str) -> list[tuple[str, list[str]]]:
    """Return the page's elements with the names of their attributes."""
    return [(tag, sorted(attributes)) for tag, attributes in Page(page).tags]


def test_no_payload_makes_an_element_or_an_attribute() -> None:
    assert len(PAYLOADS) >= 30
    # Harmless text as long as the payload: its length decides which labels fit into a picture.
    expected: dict[int, list[tuple[str, list[str]]]] = {}
    for payload in PAYLOADS:
        length = len(reading.line(payload))
        if length not in expected:
            expected[length] = skeleton(html.render(hostile("x" * length)))
        page = html.render(hostile(payload))
        assert skeleton(page) == expected[length], payload
        assert "alert(1)" not in "".join(Page(page).inside["script"])


def test_heads_can_be_sorted_by_what_their_cells_mean() -> None:
    page = Page(html.render(document()))
    (table,) = [a for a in page.attributes("table") if a.get("class") == "sortable"]
    assert table
    heads = [a for a in page.attributes("th") if a.get("scope") == "col"]
    assert len(heads) >= 10
    keys = [a["data-v"] for a in page.attributes("td") if "data-v" in a]
    assert all(isinstance(float(key or ""), float) for key in keys)


def test_without_color_the_tied_and_the_baselines_are_marked() -> None:
    lines = printed(document()).splitlines()
    assert [line.split()[1] for line in lines if line.startswith("* ")] == [
        "lora(r=8)", "few_shot(k=4)+lora", "full", "the",
    ]  # fmt: skip
    assert "* the highest score and what is tied with it" in lines
    named = [line.split()[0] for line in lines if "(baseline)" in line]
    assert named == ["nearest_neighbor", "majority"]


def test_of_equal_scores_the_winner_stands_first_in_both_reports() -> None:
    found = document()
    for row in found["board"][:4]:
        row["score"] = 0.9
    found["verdict"] |= {"winner": "full", "tied_with": ["p_tuning", "lora(r=8)"]}
    names = [row.name for row in reading.read(found).rows][:4]
    assert names == ["full", "p_tuning", "lora(r=8)", "few_shot(k=4)+lora"]


def test_a_board_without_any_score_has_reasons_and_no_picture() -> None:
    found = document()
    for row in found["board"]:
        row |= {"status": "not_run", "score": None, "reason": "no memory"}
    assert printed(found).count("not run: no memory") == len(found["board"])
    page = html.render(found)
    assert "No technique has a score." in page
    assert "<svg" not in page


@pytest.mark.parametrize("width", [24, 60, 100, 160])
@pytest.mark.parametrize("name", ["x" * 90, "\N{CJK UNIFIED IDEOGRAPH-4E2D}" * 60])
def test_a_long_name_never_costs_the_score(name: str, width: int) -> None:
    found = document()
    found["board"][0]["technique"] = name
    stream = io.StringIO()
    terminal.render(found, Console(file=stream, width=width))
    assert width < 60 or "0.907 [0.873, 0.935]" in stream.getvalue()
    assert max(map(cell_len, stream.getvalue().splitlines())) <= width
