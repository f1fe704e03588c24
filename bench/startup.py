"""Start-up: CPU seconds of `savile --help`, and which heavy libraries it imports.

    python bench/startup.py [--runs 10]

The command line has to answer at once; torch and transformers take seconds to import, so
they may not be among its modules. Results go to `bench/results/` as JSON lines.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import machine

RESULTS = Path(__file__).resolve().parent / "results"
FORBIDDEN = ("torch", "transformers")
HEAVY = (*FORBIDDEN, "tokenizers", "scipy", "sklearn", "sacrebleu", "pyarrow", "numpy", "pydantic")
LIST_MODULES = """
import contextlib, io, json, sys
from savile.cli import main
sys.argv = ["savile", "--help"]
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def main() -> None:
    """Measure and write the result; fails when a forbidden module is imported."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_known_args()[0].runs
    loaded = json.loads(_run("-c", LIST_MODULES))
    heavy = [name for name in HEAVY if name in loaded]
    seconds = [cpu_seconds("-m", "savile", "--help") for _ in range(runs)]
    floor = [cpu_seconds("-c", "pass") for _ in range(runs)]
    record: dict[str, Any] = {
        "kind": "startup",
        "command": "savile --help",
        "runs": runs,
        "cpu_seconds_min": round(min(seconds), 3),
        "cpu_seconds_median": round(statistics.median(seconds), 3),
        "python_cpu_seconds_median": round(statistics.median(floor), 3),
        "heavy_modules": heavy,
    }
    RESULTS.mkdir(exist_ok=True)
    lines = [json.dumps(machine.line()), json.dumps(record)]
    name = f"{datetime.now(UTC).date()}-startup.jsonl"
    (RESULTS / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=1))
    if set(heavy) & set(FORBIDDEN):
        sys.exit("torch or transformers is imported by --help")


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
