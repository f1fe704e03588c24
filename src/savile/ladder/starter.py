"""What `savile init` writes: a task.yaml for a data file, or a copy of a bundled business case."""

from __future__ import annotations

import difflib
import re
from importlib import resources
from pathlib import Path

from savile import store
from savile.errors import Problem, UsageError

LABELS_AT_MOST = 50
"""More different outputs than this are free text."""


def cases() -> dict[str, Path]:
    """Return the bundled business cases by name."""
    folder = Path(str(resources.files("savile") / "embedded" / "cases"))
    return {item.parent.name: item.parent for item in sorted(folder.glob("*/task.yaml"))}


def start(source: str, out: Path | None) -> Path:
    """Write what `savile run` needs and return the path of the task.yaml.

    Args:
        source: a data file, or the name of a bundled case.
        out: where to; default a folder named as the case, or task.yaml beside the data file.

    Raises:
        UsageError: there is no such file or case, or the target exists.
        DataError: the data file cannot be read.
    """
    if source in cases():
        return _copy(cases()[source], out or Path(source))
    if Path(source).is_file():
        return _describe(Path(source), out)
    near = difflib.get_close_matches(source, cases(), n=1)
    raise UsageError(
        Problem(
            where=source,
            what="is no data file and no bundled case",
            expected=f"a file, or one of {', '.join(cases())}",
            fix=f"Did you mean {near[0]}?" if near else "",
        )
    )


def _copy(case: Path, folder: Path) -> Path:
    for file in case.iterdir():
        _refuse_existing(folder / file.name)
    for file in sorted(case.iterdir()):
        store.write_atomic(folder / file.name, file.read_bytes())
    return folder / "task.yaml"


def _describe(data: Path, out: Path | None) -> Path:
    target = out or data.parent / "task.yaml"
    if target.is_dir() or target.suffix not in (".yaml", ".yml"):
        target = target / "task.yaml"
    _refuse_existing(target)
    task = re.sub(r"[^A-Za-z0-9._-]+", "-", data.stem).strip("-._") or "task"
    same_folder = target.parent.resolve() == data.parent.resolve()
    path = data.name if same_folder else str(data.resolve())
    store.write_atomic(target, _spec(task, path).encode("utf-8"))
    return target


def _spec(task: str, path: str) -> str:
    return f"""\
# What is compared, on which data. `savile schema` lists every key, `savile check` reads the rows.
task: {task}
base: embedded            # or a Hugging Face id, or a folder
data:
  file: {path}            # divided by a hash of the input: 70 % train, 10 % dev, 20 % test
# prompt:
#   instruction: what the model is to do, in words
#   labels: auto          # a closed set: the outputs that occur in train
# metric: exact_match     # accuracy for labels
# budget: {{seconds: 600}}
"""


def _refuse_existing(path: Path) -> None:
    if path.exists():
        fix = "Give another place with --out, or remove it"
        raise UsageError(Problem(where=str(path), what="already exists", fix=fix))
