"""Write a first spec beside a data file, or copy a bundled case: the start of `savile init`.

The guesses (columns, label set or free text, metric) stand in the file with their reasons, so that
a wrong one is seen and corrected. Nothing that exists is ever overwritten.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from savile import registry
from savile.data.read import read_file
from savile.data.rows import Table
from savile.data.shapes import BadCell, Fields, Shape, Wanted, recognize
from savile.errors import Problem, UsageError
from savile.spec.faults import nearest, one_of
from savile.spec.schema import json_schema

SCHEMA_NAME = "task.schema.json"
LABELS_LISTED = 40
"""Up to this many labels are written out; more become `auto`."""
MOST_LABELS = 300
NUMBER = re.compile(r"^[-+]?[$€£]?\d[\d,]*(\.\d+)?%?$")


class _Guess(NamedTuple):
    """What the outputs look like."""

    labels: tuple[str, ...]
    """Empty for free text."""
    metric: str
    why: str


def write_spec(data_file: Path, out: Path | None = None) -> Path:
    """Write a commented `task.yaml` for a data file, and `task.schema.json` for editors.

    Args:
        data_file: labelled rows in any known format.
        out: the spec to write, or its folder; default: beside the data file.

    Returns:
        the path of the spec.

    Raises:
        UsageError: the spec exists already.
        DataError: the data file cannot be read.
    """
    target = target_of(data_file, out)
    if target.exists():
        what = "the spec exists already and is not overwritten"
        raise UsageError(Problem(where=str(target), what=what, fix="Give another path, or move it"))
    table = read_file(data_file, data_file.name)
    shape = recognize(table, Wanted())
    fields = _fields(table, shape)
    target.parent.mkdir(parents=True, exist_ok=True)
    schema = target.parent / SCHEMA_NAME
    if not schema.exists():
        schema.write_text(json.dumps(json_schema(), indent=1) + "\n", encoding="utf-8")
    with target.open("x", encoding="utf-8", newline="\n") as file:
        file.write(_text(data_file, target, table, shape, fields))
    return target


def target_of(data_file: Path, out: Path | None) -> Path:
    """Return the path of the spec that `write_spec` writes."""
    target = data_file.parent if out is None else out
    if target.is_dir() or (out is not None and not target.suffix):
        return target / "task.yaml"
    return target


def _fields(table: Table, shape: Shape) -> list[Fields]:
    found = []
    for row in table.rows:
        try:
            fields = shape.extract(row)
        except BadCell:
            continue  # `savile check` will say what is wrong with the row
        if fields.input and fields.outputs and fields.outputs[0]:
            found.append(fields)
    if not found:
        what = "no row has a question and an answer"
        raise UsageError(Problem(where=table.name, what=what, fix="Check the columns"))
    return found


def _guess(fields: Sequence[Fields]) -> _Guess:
    """Tell labels from free text, and choose the metric that fits."""
    outputs = [str(one.outputs[0]) for one in fields]
    counts = Counter(outputs)
    words = sorted(len(text.split()) for text in outputs)
    median = words[len(words) // 2]
    numbers = sum(NUMBER.match(text.strip()) is not None for text in counts) / len(counts)
    short = words[-1] <= 8 and max(map(len, outputs)) <= 80
    repeats = len(outputs) >= (4 if numbers < 0.9 else 10) * len(counts)
    few = 2 <= len(counts) <= MOST_LABELS
    if few and short and (repeats or (len(counts) <= 5 and len(outputs) >= 2 * len(counts))):
        share = max(counts.values()) / len(outputs)
        why = f"{len(counts)} different answers in {len(outputs)} rows: a closed set of labels"
        metric = "macro_f1" if share > 0.6 else "accuracy"
        return _Guess(tuple(sorted(counts)), _known(metric, "accuracy"), why)
    why = f"{len(counts)} different answers in {len(outputs)} rows, {median} words each: free text"
    if numbers > 0.9:
        return _Guess((), _known("numeric", "exact_match"), why + " that is a number")
    metric = "exact_match" if median <= 3 else "token_f1" if median <= 8 else "rouge_l"
    return _Guess((), _known(metric, "exact_match"), why)


def _known(*names: str) -> str:
    present = registry.parts("metrics")
    return next((name for name in names if name in present), names[-1])


def _text(
    data_file: Path, target: Path, table: Table, shape: Shape, fields: Sequence[Fields]
) -> str:
    guess = _guess(fields)
    lines = [
        f"# yaml-language-server: $schema={SCHEMA_NAME}",
        f"# Written by `savile init` from {len(table.rows)} rows of {data_file.name}; check it",
        f"task: {_task_name(data_file, target)}",
        "base: embedded  # or a folder, a Hugging Face id, {endpoint: URL, model: NAME}",
        "",
        "data:",
        *_files(data_file, target),
        f"  # {shape.said}",
        *_columns(table, shape),
        "  # leak: drop_train  # drop train rows whose input is also in dev or test",
        "",
        "prompt:",
        *_prompt(guess, fields),
        "",
        f"metric: {guess.metric}",
        "# goal: 0.9  # the score that would be good enough",
        "",
        "# The same for every tuned technique.",
        "budget:",
        "  search: 3  # learning rates tried",
        "  # train_examples: 20000  # example presentations, the search included",
        "",
        "# prices: {label: 0.10, cpu_hour: 0.05}  # USD; adds money to the board",
        "",
        "ladder: auto  # or a list: [zero_shot, {few_shot: {k: 8}}, lora, few_shot+lora]",
        "seed: 0",
        "seeds: 3  # of tuned techniques and drawn demonstrations; 1 is fast and decides nothing",
    ]
    return "\n".join(lines) + "\n"


def _task_name(data_file: Path, target: Path) -> str:
    stem = data_file.name.split(".")[0]
    if stem in ("train", "dev", "test", "data", "examples", "rows"):
        stem = data_file.resolve().parent.name or target.stem
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._-")[:64]
    return json.dumps(name) if not name or not name[0].isalpha() else name


def _files(data_file: Path, target: Path) -> list[str]:
    """Name the file, or train, dev and test when the neighbours are called so."""
    folder = data_file.parent
    suffix = data_file.name[len(data_file.name.split(".")[0]) :]
    splits = {name: folder / f"{name}{suffix}" for name in ("train", "dev", "test")}
    relative = {
        name: json.dumps(os.path.relpath(path, target.parent), ensure_ascii=False)
        for name, path in {**splits, "file": data_file}.items()
    }
    if data_file in splits.values() and splits["train"].is_file() and splits["test"].is_file():
        lines = [f"  train: {relative['train']}"]
        if splits["dev"].is_file():
            lines.append(f"  dev: {relative['dev']}")
        else:
            lines.append("  # dev: without it 15 % of train (at most 1000 rows), chosen by a hash")
        return [*lines, f"  test: {relative['test']}"]
    return [
        f"  file: {relative['file']}  # or train:, dev: and test: when they are separate files",
        "  shares: {train: 0.7, dev: 0.1, test: 0.2}  # chosen by a hash of the input",
    ]


def _columns(table: Table, shape: Shape) -> list[str]:
    if shape.name in ("chat", "sharegpt", "alpaca", "prompt_completion"):
        return [f"  format: {shape.name}"]
    lines = ["  format: steps"] if shape.name == "steps" else []
    for key, column in zip(("input", "output", "rationale"), shape.columns, strict=False):
        lines.append(f"  {key}: {json.dumps(column, ensure_ascii=False)}")
    others = [c for c in table.columns if c not in shape.columns]
    if others:
        names = ", ".join(others)[:100].replace("\n", " ")
        lines.append(f'  # not used: {names}; a template uses several: "{{subject}}: {{body}}"')
    return lines


def _prompt(guess: _Guess, fields: Sequence[Fields]) -> list[str]:
    lines = [f"  # {guess.why}"]
    if guess.labels:
        lines.append("  instruction: Answer with one of the labels.")
        if len(guess.labels) <= LABELS_LISTED:
            listed = [f"    - {json.dumps(label, ensure_ascii=False)}" for label in guess.labels]
            lines += ["  labels:", *listed]
        else:
            lines.append(f"  labels: auto  # the {len(guess.labels)} answers that occur in train")
    else:
        lines += ["  # instruction: the task in words, shown once at the start"]
        lines += ["  instruction: null"]
    lines.append("  # system: persona, policy or style; adds the techniques with `system`")
    return lines


def cases() -> list[str]:
    """Return the names of the bundled cases."""
    folder = _cases_folder()
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if (p / "task.yaml").is_file())


def _cases_folder() -> Path:
    return Path(str(resources.files("savile") / "embedded" / "cases"))


def copy_case(name: str, out: Path | None = None) -> Path:
    """Copy a bundled case into a folder and return the path of its spec.

    Args:
        name: one of `cases()`.
        out: the folder; default: a new folder with the case's name.

    Raises:
        UsageError: no such case, or a file of it exists already.
    """
    known = cases()
    if name not in known:
        hint = nearest(name, known)
        what = f"there is neither a file nor a bundled case called '{name}'{hint}"
        raise UsageError(Problem(what=what, expected=f"a data file, or one of {one_of(known)}"))
    target = Path(name) if out is None else out
    files = sorted(p for p in (_cases_folder() / name).iterdir() if p.is_file())
    for file in files:
        if (target / file.name).exists():
            what = "the file exists already and is not overwritten"
            raise UsageError(Problem(where=str(target / file.name), what=what, fix="Give --out"))
    target.mkdir(parents=True, exist_ok=True)
    for file in files:
        (target / file.name).write_bytes(file.read_bytes())
    return target / "task.yaml"
