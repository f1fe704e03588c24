"""Start-up: CPU seconds of the commands that need no model, and which heavy libraries they import.

    python bench/startup.py [--runs 10]

`savile --help`, `savile check` of a bundled case and `savile report` of a small finished run have
to answer at once; torch and transformers take seconds to import, so they may not be among their
modules. Results go to `bench/results/` as JSON lines.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import kept
import machine

CASE = str(files("savile") / "embedded" / "cases" / "easy_routing" / "task.yaml")
FORBIDDEN = ("torch", "transformers")
HEAVY = (*FORBIDDEN, "tokenizers", "scipy", "sklearn", "sacrebleu", "pyarrow", "numpy", "pydantic")
LIST_MODULES = """
import contextlib, io, json, sys
from savile.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main(sys.argv[1:])
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def main() -> None:
    """Measure and write the result; fails when a forbidden module is imported."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_known_args()[0].runs
    floor = [cpu_seconds("-c", "pass") for _ in range(runs)]
    lines = [machine.line()]
    with tempfile.TemporaryDirectory() as folder:
        done = str(Path(folder) / "run")
        small = ("--only", "zero_shot", "--set", "budget.test_rows=32", "--quiet")
        _run("-m", "savile", "run", CASE, "--out", done, *small)
        for arguments in (["--help"], ["check", CASE], ["report", done]):
            lines.append({"kind": "startup", **measured(arguments, runs), **_floor(floor)})
            print(json.dumps(lines[-1], indent=1))
    kept.write("startup", lines)
    if slow := [line["command"] for line in lines[1:] if set(line["heavy_modules"]) & {*FORBIDDEN}]:
        sys.exit(f"torch or transformers is imported by {', '.join(slow)}")


def measured(arguments: list[str], runs: int) -> dict[str, Any]:
    """Return what a command takes and imports."""
    loaded = json.loads(_run("-c", LIST_MODULES, *arguments))
    seconds = [cpu_seconds("-m", "savile", *arguments) for _ in range(runs)]
    return {
        "command": f"savile {arguments[0]}",
        "runs": runs,
        "cpu_seconds_min": round(min(seconds), 3),
        "cpu_seconds_median": round(statistics.median(seconds), 3),
        "heavy_modules": [name for name in HEAVY if name in loaded],
    }


def _floor(seconds: list[float]) -> dict[str, float]:
    return {"python_cpu_seconds_median": round(statistics.median(seconds), 3)}


def cpu_seconds(*arguments: str) -> float:
    """Return user and system seconds of one interpreter run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _run(*arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
    return done.stdout


if __name__ == "__main__":
    main()
