"""The pictures: scales for any costs, labels that keep apart, words beside the shapes."""

import math
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from savile.report import charts, reading
from savile.report.reading import Row
from tests.report.sample import document


def rows(*scores: float, seconds: float | None = 1.0) -> list[Row]:
    return [
        Row(values={"technique": f"t{i}", "kind": "tuned", "score": s, "seconds": seconds})
        for i, s in enumerate(scores)
    ]


def drawn(svg: str) -> ElementTree.Element:
    """Parse a picture; its numbers are finite and its words are there."""
    assert not re.search(r"\b(nan|inf)\b", svg)
    found = ElementTree.fromstring(svg)  # noqa: S314 (our own text)
    assert found.findtext("title")
    assert found.findtext("desc")
    return found


def cost(board: list[Row]) -> str | None:
    return charts.quality_cost(board, "seconds", "seconds", reading.seconds)


def test_the_ranked_intervals_have_a_dot_a_bar_and_words_for_each_row() -> None:
    board = reading.read(document())
    picture = drawn(charts.intervals(board.rows, board.leading))
    assert len(picture.findall("g/circle")) == len(picture.findall("g/line")) == len(board.rows)
    for row, group in zip(board.rows, picture.findall("g"), strict=True):
        assert (group.findtext("title") or "").startswith(f"{row.name}: ")
        bar, dot = group.find("line"), group.find("circle")
        assert bar is not None
        assert dot is not None
        assert float(bar.attrib["x1"]) <= float(dot.attrib["cx"]) <= float(bar.attrib["x2"])
    assert all(row.name in (picture.findtext("desc") or "") for row in board.rows)


@pytest.mark.parametrize(
    "scores", [(0.5,), (0.0,), (1.0,), (0.7, 0.7, 0.7), (55.0, 3.0), (0.0, 0.0)]
)
def test_one_row_and_identical_scores_have_a_scale(scores: tuple[float, ...]) -> None:
    board = rows(*scores)
    picture = drawn(charts.intervals(board, ["t0"]))
    places = [float(dot.attrib["cx"]) for dot in picture.iter("circle")]
    assert all(charts.LEFT - 1 <= x <= charts.WIDTH - charts.RIGHT + 1 for x in places)
    assert len(set(places)) == len(set(scores))


def test_many_rows_make_a_taller_picture() -> None:
    board = rows(*(i / 300 for i in range(300, 0, -1)))
    picture = drawn(charts.intervals(board, []))
    assert float(picture.attrib["viewBox"].split()[3]) > 300 * charts.LINE
    found = cost(board)
    assert found is not None
    assert len(list(drawn(found).iter("circle"))) == 300


@pytest.mark.parametrize("seconds", [None, 0.0, -3.0])
def test_a_cost_of_nothing_has_no_place_on_a_log_axis(seconds: float | None) -> None:
    free = rows(0.9, seconds=seconds)
    assert cost([*free, *rows(0.8)]) is None
    found = cost([*free, *rows(0.8, 0.7)])
    assert found is not None
    assert len(list(drawn(found).iter("circle"))) == 2


def test_costs_from_nanoseconds_to_years_and_equal_costs_have_ticks() -> None:
    for low, high in ((1e-9, 3e7), (1.0, 1.0), (0.9, 1.1)):
        found = cost([*rows(0.9, seconds=low), *rows(0.8, seconds=high)])
        assert found is not None
        drawn(found)
    axis = charts.Axis(low=1e-4, high=100.0, start=0.0, stop=60.0, log=True)
    assert axis.ticks == pytest.approx([10.0**e for e in range(-4, 3)])
    assert axis.at(1.0) == pytest.approx(40.0)
    assert math.isfinite(axis.at(0.0))


def test_labels_never_lie_on_each_other_nor_leave_the_picture() -> None:
    board = reading.read(document()).rows
    for key, title, show in (("seconds", "s", reading.seconds), ("usd_per_1000", "$", reading.usd)):
        found = charts.quality_cost(board, key, title, show)
        assert found is not None
        boxes = [box(t) for t in drawn(found).iter("text") if t.get("class") == "halo"]
        assert len(boxes) >= len(board) // 2
        for i, (left, top, right, bottom) in enumerate(boxes):
            assert left >= 0
            assert right <= 560
            for a, b, c, d in boxes[:i]:
                assert right <= a or c <= left or bottom <= b or d <= top


def box(text: ElementTree.Element) -> tuple[float, float, float, float]:
    x, y, width = float(text.attrib["x"]), float(text.attrib["y"]), 7.0 * len(text.text or "")
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[text.attrib["text-anchor"]]
    return left, y - 11, left + width, y + 3


def test_a_long_name_is_cut_but_its_tooltip_is_whole() -> None:
    values: dict[str, Any] = {"technique": "x" * 90, "score": 0.5}
    picture = drawn(charts.intervals([Row(values=values)], []))
    assert "x" * 90 in (picture.findtext("g/title") or "")
    assert max(len(t.text or "") for t in picture.iter("text")) <= charts.LONGEST


@pytest.mark.parametrize("step", [0.0, -1.0, 1e-9, 0.03, 0.2, 1.0, 7.0, 1e12])
def test_a_nice_step_is_1_2_or_5_times_a_power_of_ten(step: float) -> None:
    found = charts.nice(step)
    assert found >= step * 0.999
    assert f"{found:e}"[0] in "125"
