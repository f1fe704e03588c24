"""The scaling runs: what a point measures, and the picture that is drawn of them."""

from __future__ import annotations

from xml.etree import ElementTree

import pictures
import scaling
from texts import Text

ROWS = [Text(f"message {n}", f"label {n % 9:02}") for n in range(40)]


def test_labels_that_are_named_are_those_of_the_rows() -> None:
    points = list(scaling.labels(ROWS))
    kept = [sorted({row.answer for row in point.rows}) for point in points]
    assert [len(found) for found in kept] == [2, 8, 9, 9]
    assert kept[0] == ["label 00", "label 01"]


def test_prompts_grow_and_models_too() -> None:
    words = [len(point.job.instruction.split()) for point in scaling.prompts(ROWS)]
    assert words == sorted(set(words))
    assert words[-1] > 30 * words[0]
    assert [point.shape for point in scaling.sizes(ROWS)] == ["5M", "30M", "135M"]
    assert [point.job.batch_size for point in scaling.batches(ROWS)] == [1, 4, 16, 64]


def measured() -> list[scaling.Record]:
    def point(x: int, ours: float) -> list[scaling.Record]:
        def rates(times: float) -> scaling.Record:
            return {"tokens_per_cpu_second": [100 / (ours * times)] * 3}

        return [
            {"kind": "setup", "tokens": 1000, "rows": 10, "shared_tokens": x},
            {"kind": "gate", "gradient_relative_worst_tensor": 1e-6},
            {
                "kind": "summary", "options": {"best": "sft: fp32"},
                "ours": rates(1), "best": rates(2), "shipped": rates(4),
                "ratio_to_best": [2, 2, 2], "ratio_to_shipped": [4, 4, 4],
            },
        ]  # fmt: skip

    axis = scaling.AXES["prompt"]
    points = [scaling.point(axis, point(x, ours)) for x, ours in ((20, 0.01), (900, 0.03))]
    return [{"kind": "about", "title": axis.title, "unit": axis.unit}, *points]


def test_a_point_is_the_cpu_time_of_a_row() -> None:
    found = measured()[1]
    assert (found["x"], found["tokens_a_row"]) == (20, 100.0)
    assert (round(found["ours"], 6), round(found["shipped"], 6)) == (0.01, 0.04)


def test_a_picture_has_every_side_and_says_its_figures() -> None:
    drawn = pictures.growth(measured())
    root = ElementTree.fromstring(drawn)  # noqa: S314 - drawn a line above
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{space}circle")) == 6
    description = root.find(f"{space}desc")
    assert description is not None
    assert description.text is not None
    assert "900: TRL + PEFT as shipped 120.0 ms" in description.text
    lines = {path.get("class"): path.get("d") for path in root.findall(f"{space}path")}
    heights = [float((lines[f"line {side}"] or "").split()[-1]) for side in pictures.SIDES]
    assert heights == sorted(heights)  # the dearest stands highest


def test_labels_do_not_touch() -> None:
    found = pictures.apart({"a": 100.0, "b": 101.0, "c": 300.0})
    assert found == {"a": 100.0, "b": 100.0 + pictures.NEAR, "c": 300.0}
