"""The pictures: scales for any costs, labels that keep apart, words beside the shapes."""

import math
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from savile.report import charts, reading
from savile.report.charts import Cost, Picture
from savile.report.reading import Board, Row
from tests.report.sample import document

SECONDS = Cost("seconds", "seconds to train", reading.seconds)
USD = Cost("usd_per_1000", "USD", reading.usd)


def rows(*scores: float, seconds: float | None = 1.0) -> list[Row]:
    return [
        Row(values={"technique": f"t{i}", "kind": "tuned", "score": s, "seconds": seconds})
        for i, s in enumerate(scores)
    ]


def board(found: list[Row]) -> Board:
    return Board(document={"metric": "accuracy"}, rows=tuple(found), others=())


def drawn(svg: str) -> ElementTree.Element:
    """Parse a picture; its numbers are finite and its words are there."""
    assert not re.search(r"\b(nan|inf)\b", svg)
    found = ElementTree.fromstring(svg)  # noqa: S314 (our own text)
    assert found.findtext("title")
    assert found.findtext("desc")
    return found


def cost(found: list[Row]) -> Picture | None:
    return charts.quality_cost(board(found), SECONDS)


def texts(picture: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in picture.iter("text")]


def test_the_ranked_intervals_have_a_dot_a_bar_and_words_for_each_row() -> None:
    found = reading.read(document())
    picture = drawn(charts.intervals(found))
    assert len(picture.findall("g/circle")) == len(picture.findall("g/line")) == len(found.rows)
    for row, group in zip(found.rows, picture.findall("g"), strict=True):
        assert (group.findtext("title") or "").startswith(f"{row.name}: ")
        bar, dot = group.find("line"), group.find("circle")
        assert bar is not None
        assert dot is not None
        assert float(bar.attrib["x1"]) <= float(dot.attrib["cx"]) <= float(bar.attrib["x2"])
    assert all(row.name in (picture.findtext("desc") or "") for row in found.rows)


def test_ties_and_baselines_are_words_and_axes_are_named() -> None:
    found = reading.read(document())
    said = texts(drawn(charts.intervals(found)))
    assert "0.907 [0.873, 0.935] highest" in said
    assert "0.893 [0.848, 0.930] tied" in said
    assert "0.688 [0.637, 0.729] baseline" in said
    assert "accuracy" in said
    made = charts.quality_cost(found, SECONDS)
    assert made is not None
    assert {"accuracy", "seconds to train"} <= set(texts(drawn(made.svg)))


@pytest.mark.parametrize(
    "scores", [(0.5,), (0.0,), (1.0,), (0.7, 0.7, 0.7), (55.0, 3.0), (0.0, 0.0)]
)
def test_one_row_and_identical_scores_have_a_scale(scores: tuple[float, ...]) -> None:
    picture = drawn(charts.intervals(board(rows(*scores))))
    places = [float(dot.attrib["cx"]) for dot in picture.iter("circle")]
    assert all(charts.LEFT - 1 <= x <= charts.WIDTH - charts.RIGHT + 1 for x in places)
    assert len(set(places)) == len(set(scores))


def test_many_rows_make_a_taller_picture() -> None:
    many = rows(*(i / 300 for i in range(300, 0, -1)))
    picture = drawn(charts.intervals(board(many)))
    assert float(picture.attrib["viewBox"].split()[3]) > 300 * charts.LINE
    found = cost(many)
    assert found is not None
    assert len(list(drawn(found.svg).iter("circle"))) == 300


@pytest.mark.parametrize("seconds", [None, 0.0, -3.0])
def test_a_cost_of_nothing_has_no_place_on_a_log_axis(seconds: float | None) -> None:
    free = rows(0.9, seconds=seconds)
    assert cost([*free, *rows(0.8)]) is None
    found = cost([*free, *rows(0.8, 0.7)])
    assert found is not None
    assert len(list(drawn(found.svg).iter("circle"))) == 2


def test_costs_from_nanoseconds_to_years_and_equal_costs_have_ticks() -> None:
    for low, high in ((1e-9, 3e7), (1.0, 1.0), (0.9, 1.1)):
        found = cost([*rows(0.9, seconds=low), *rows(0.8, seconds=high)])
        assert found is not None
        drawn(found.svg)
    axis = charts.Axis(low=1e-4, high=100.0, start=0.0, stop=60.0, log=True)
    assert axis.ticks == pytest.approx([10.0**e for e in range(-4, 3)])
    assert axis.at(1.0) == pytest.approx(40.0)
    assert math.isfinite(axis.at(0.0))


def test_labels_never_lie_on_each_other_nor_leave_the_picture() -> None:
    found = reading.read(document())
    for kind in (SECONDS, USD):
        made = charts.quality_cost(found, kind)
        assert made is not None
        boxes = [box(t) for t in drawn(made.svg).iter("text") if t.get("class") == "halo"]
        assert len(boxes) >= len(found.rows) // 2
        for i, (left, top, right, bottom) in enumerate(boxes):
            assert left >= 0
            assert right <= charts.COST_WIDTH
            for a, b, c, d in boxes[:i]:
                assert right <= a or c <= left or bottom <= b or d <= top


def test_a_name_without_room_has_a_number_that_the_caption_explains() -> None:
    crowd = rows(*[0.5] * 12)
    made = cost(crowd)
    assert made is not None
    picture = drawn(made.svg)
    named = [t.text for t in picture.iter("text") if t.get("class") == "halo"]
    numbers = [t.text for t in picture.iter("text") if t.get("class") == "number"]
    assert named
    assert numbers == [str(n) for n in range(1, 12 - len(named) + 1)]
    for row in crowd:
        assert (row.name in named) != (f"{row.name} (0.500, 1.0 s)" in made.caption)
    alone = cost([*rows(0.9, seconds=1.0), *rows(0.1, seconds=9.0)])
    assert alone is not None
    assert alone.caption == ""


def box(text: ElementTree.Element) -> tuple[float, float, float, float]:
    x, y, width = float(text.attrib["x"]), float(text.attrib["y"]), 7.0 * len(text.text or "")
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[text.attrib["text-anchor"]]
    return left, y - 11, left + width, y + 3


def test_a_long_name_is_cut_but_its_tooltip_is_whole() -> None:
    values: dict[str, Any] = {"technique": "x" * 90, "score": 0.5}
    picture = drawn(charts.intervals(board([Row(values=values)])))
    assert "x" * 90 in (picture.findtext("g/title") or "")
    assert max(map(len, texts(picture))) <= charts.LONGEST


@pytest.mark.parametrize("step", [0.0, -1.0, 1e-9, 0.03, 0.2, 1.0, 7.0, 1e12])
def test_a_nice_step_is_1_2_or_5_times_a_power_of_ten(step: float) -> None:
    found = charts.nice(step)
    assert found >= step * 0.999
    assert f"{found:e}"[0] in "125"
