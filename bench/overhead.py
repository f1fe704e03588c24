"""Where the CPU seconds of a ladder go: computing with the model, and everything around it.

    python bench/overhead.py easy_routing [--base embedded-large] [--set seeds=1] [--only lora ...]

The functions of `PARTS` are timed while `savile run` runs in this process; a part's seconds are its
own, without those of parts inside it. Imports and the loading of the base stand by themselves:
they are paid once, however long the run is. The share of what is not training, evaluation or
generation is the ladder's overhead.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import kept

START = time.process_time()

import machine  # noqa: E402 - what is imported from here on is timed
from savile.cli.importing import importing  # noqa: E402

MODEL = ("training", "evaluation and generation")
PARTS = {
    "training": ("train:_Loop._gradients", "train:_Loop._apply"),
    "evaluation and generation": (
        "lm.local:_Labels.__call__",
        "lm.local:_Texts.__call__",
        "objectives.base:Objective.judge",
    ),
    "memory counted": ("ladder.room:of_training", "ladder.room:of_answering"),
    "base loaded": ("ladder.run:bases_of",),
    "tokenization": ("lm.model:LM.encode_prompt", "lm.model:LM.encode_completion"),
    "data": ("api:prepare",),
    "steps drawn, trees built": ("train:_Loop._steps",),
    "statistics and verdict": (
        "ladder.board:line_of",
        "ladder.board:line_of_baseline",
        "ladder.run:verdict",
    ),
    "files": ("store:commit_dir", "store:write_json", "store:append_event", "store:verify_dir"),
    "page": ("report.html:render",),
}


class Clocks:
    """CPU seconds by part, each without the parts inside it."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.seconds: Counter[str] = Counter()
        self.inside: list[float] = []

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose seconds count for a part; a generator's steps count alike."""

        @functools.wraps(function)
        def run(*given: Any, **named: Any) -> Any:
            found = self.spend(part, lambda: function(*given, **named))
            return self.stepped(part, found) if hasattr(found, "gi_frame") else found

        return run

    def stepped(self, part: str, steps: Any) -> Any:
        """Yield what a generator yields."""
        end = object()
        while (step := self.spend(part, lambda: next(steps, end))) is not end:
            yield step

    def spend(self, part: str, work: Callable[[], Any]) -> Any:
        """Return what `work` returns."""
        self.inside.append(0.0)
        start = time.process_time()
        try:
            return work()
        finally:
            spent = time.process_time() - start
            self.seconds[part] += spent - self.inside.pop()
            if self.inside:
                self.inside[-1] += spent


def main() -> None:
    """Run a case and write where its seconds went."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--base", default="embedded", help="another than the case's")
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    clocks = Clocks()
    with importing():  # as the command does
        for part, names in PARTS.items():
            for name in names:
                watch(clocks, part, name)
        from savile import api
        from savile.report import html

    spec = str(files("savile") / "embedded" / "cases" / options.case / "task.yaml")
    clocks.seconds["imports"] = time.process_time() - START
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        changes = [*options.set, f"base={options.base}"]
        run = api.run(spec, Path(folder) / "run", overrides=changes, only=options.only)
        html.render(run.document)
    total = time.process_time() - start
    name = "-".join([options.case, *([] if options.base == "embedded" else [options.base])])
    record = {"kind": "overhead", "case": name, "set": options.set, "only": options.only}
    record |= shares(clocks.seconds, total)
    kept.write(f"overhead-{name}", [machine.line(), record])
    print(json.dumps(record, indent=1))


def watch(clocks: Clocks, part: str, name: str) -> None:
    """Time a function of savile, named `module:Class.function`, wherever it is looked up."""
    module_name, _, path = name.partition(":")
    owner: Any = importlib.import_module(f"savile.{module_name}")
    *classes, function = path.split(".")
    for one in classes:
        owner = getattr(owner, one)
    setattr(owner, function, clocks.timed(part, getattr(owner, function)))


def shares(seconds: Counter[str], total: float) -> dict[str, Any]:
    """Return CPU seconds by part, what is in none of them, and the overhead's share of the run
    after its start."""
    own = {part: round(seconds[part], 3) for part in ("imports", *PARTS)}
    rest = total - sum(value for part, value in own.items() if part != "imports")
    running = total - seconds["base loaded"]
    model = sum(seconds[part] for part in MODEL)
    return {
        "seconds": own | {"the rest": round(rest, 3)},
        "total": round(total, 3),
        "overhead": round((running - model) / running, 4),
    }


if __name__ == "__main__":
    main()
