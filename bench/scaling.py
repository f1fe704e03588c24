"""How our time and the peer's grow with the prompt, the sequences that share it, the labels that it
names, and the size of the model.

    python bench/scaling.py [--axis prompt|batch|labels|size] [--blocks N]

Every point is a small measurement of `training.py` (LoRA SFT on Banking77): the equality gate over
a few steps, the likely ones of the peer's options, then blocks. `pictures.py` draws the results.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import kept
import machine
import texts
import training
from jobs import CLASSIFY, JOBS, NAMED, Job
from texts import Text
from training import Effort, Record

BASE = JOBS["lora-short"]
ROWS = 16
"""At least so many rows make a timed pass."""


class Point(NamedTuple):
    """One measurement of an axis."""

    rows: list[Text]
    job: Job = BASE
    shape: str = "5M"


class Axis(NamedTuple):
    """What grows."""

    title: str
    unit: str
    points: Callable[[list[Text]], Iterator[Point]]
    x: Callable[[Record], float]
    """Reads the value from a measurement's setup."""


def prompts(rows: list[Text]) -> Iterator[Point]:
    """Yield instructions of more and more words; the words are those of the 77 labels."""
    words = training.instruction(BASE._replace(instruction=NAMED), rows).split()
    for n in (12, 55, 185, 540):
        yield Point(rows, BASE._replace(instruction=" ".join(islice(cycle(words), n))))


def batches(rows: list[Text]) -> Iterator[Point]:
    """Yield batches of more and more rows behind the 77 labels."""
    for n in (1, 4, 16, 64):
        yield Point(rows, BASE._replace(instruction=NAMED, batch_size=n))


def labels(rows: list[Text]) -> Iterator[Point]:
    """Yield instructions that name more and more labels, with rows of those alone."""
    every = sorted({row.answer for row in rows})
    for n in (2, 8, 24, 77):
        named = set(every[:n])
        yield Point([r for r in rows if r.answer in named], BASE._replace(instruction=NAMED))


def sizes(rows: list[Text]) -> Iterator[Point]:
    """Yield larger and larger models."""
    for shape in ("5M", "30M", "135M"):
        yield Point(rows, BASE._replace(instruction=CLASSIFY), shape)


AXES = {
    "prompt": Axis("Length of the shared prompt", "tokens", prompts, lambda s: s["shared_tokens"]),
    "batch": Axis("Sequences behind one prompt", "rows a step", batches, lambda s: s["pass"][0]),
    "labels": Axis("Labels that the prompt names", "labels", labels, lambda s: s["labels"]),
    "size": Axis(
        "Size of the model", "parameters", sizes,
        lambda s: s["trunk_parameters"] + s["head_parameters"],
    ),
}  # fmt: skip


def main() -> None:
    """Measure one axis or all, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--axis", choices=list(AXES), help="one axis only")
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--data", type=Path, default=texts.DATA, help="folder of the data sets")
    parser.add_argument("--out", type=Path, default=kept.RESULTS, help="where results go")
    options = parser.parse_args()
    for name in [options.axis] if options.axis else AXES:
        done = kept.shown(grown(name, options.data, options.blocks))
        kept.write(f"scaling-{name}", done, options.out)


def grown(name: str, data: Path, blocks: int) -> Iterator[Record]:
    """Yield the records of every point of an axis."""
    axis = AXES[name]
    yield machine.line()
    yield {"kind": "about", "axis": name, "title": axis.title, "unit": axis.unit}
    for rows, job, shape in axis.points(texts.read(BASE.texts, data)):
        effort = Effort(
            full=False, steps=max(1, ROWS // job.batch_size), blocks=blocks, gate_steps=3
        )
        about = {"job": f"scaling {name}", "shape": shape, "labels": len({r.answer for r in rows})}
        found = []
        for record in training.bench(about, job, rows, effort, data):
            found.append(record)
            yield record
        yield point(axis, found)


def point(axis: Axis, records: list[Record]) -> Record:
    """Return CPU seconds a row of each side, beside what has grown."""
    setup, gate, summary = (
        next(r for r in records if r["kind"] == kind) for kind in ("setup", "gate", "summary")
    )
    tokens = setup["tokens"] / setup["rows"]
    return {
        "kind": "point",
        "x": axis.x(setup),
        "tokens_a_row": round(tokens, 1),
        **{
            side: tokens / summary[side]["tokens_per_cpu_second"][0]
            for side in ("ours", "shipped", "best")
        },
        "best_option": summary["options"]["best"],
        "ratio_to_shipped": summary["ratio_to_shipped"],
        "ratio_to_best": summary["ratio_to_best"],
        "gate_gradient": gate["gradient_relative_worst_tensor"],
    }


if __name__ == "__main__":
    main()
