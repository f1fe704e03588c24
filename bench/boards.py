"""Runs bundled cases (or specs) and keeps their boards as raw results, for the tables of the docs.

    python bench/boards.py hard_routing easy_routing --seeds 5 --every
    python bench/boards.py path/to/task.yaml

Each board goes to `bench/results/<date>-board-<task>.jsonl`: a machine line, one line a row, the
verdict and the seconds by part. `bench/table.py` writes the documents from them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

import kept
import machine
from savile import registry
from savile.spec import Spec, load

LEFT_OUT = ("mistakes",)
"""Fields of a row that hold texts of the data."""


def main() -> None:
    """Run what is named and keep the boards."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("specs", nargs="+", help="bundled cases or task.yaml files")
    parser.add_argument("--seeds", type=int, default=None)
    parser.add_argument("--base", default=None)
    parser.add_argument("--budget", type=int, default=None, help="presentations a technique")
    parser.add_argument("--every", action="store_true", help="every delta, alone and combined")
    parser.add_argument("--runs", type=Path, default=None, help="keep run folders here (resumable)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for spec in options.specs:
            document = run(spec, options, options.runs or Path(scratch))
            keep(document)


def run(spec: str, options: argparse.Namespace, runs: Path) -> dict[str, Any]:
    """Run one spec and return its board document."""
    path = Path(spec)
    if not path.exists():
        path = Path(str(resources.files("savile") / "embedded" / "cases" / spec / "task.yaml"))
    base = [] if options.base is None else ["--set", f"base={options.base}"]
    seeds = [] if options.seeds is None else ["--set", f"seeds={options.seeds}"]
    budget = options.budget and ["--set", f"budget.train_examples={options.budget}"]
    ladder = ["--set", f"ladder={json.dumps(every(load(path)))}"] if options.every else []
    out = runs / f"{path.parent.name}-{path.stem}-{options.base or 'own'}"
    command = [sys.executable, "-m", "savile", "run", str(path), "--out", str(out), "--json"]
    done = subprocess.run(
        [*command, *base, *seeds, *(budget or []), *ladder], stdout=subprocess.PIPE, check=True
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def every(spec: Spec) -> list[Any]:
    """Return the ladder of every prompt technique, every delta, and some of their combinations.

    Where the rows show worked steps, what is tuned learns the steps.
    """
    steps = "chain_of_thought+" if spec.data.rationale else ""
    ladder: list[Any] = ["zero_shot", "one_shot"]
    ladder += [{name: {"k": k}} for name, k in (("few_shot", 8), ("few_shot", 16), ("nearest", 8))]
    ladder += ["system", {"system+few_shot": {"k": 4}}] if spec.prompt.system else []
    ladder += ["chain_of_thought", {"few_shot+chain_of_thought": {"k": 4}}] if steps else []
    ladder += [f"{steps}{delta}" for delta in registry.parts("deltas")]
    ladder += ["lora"] if steps else []
    ladder += [{f"few_shot+{steps}lora": {"few_shot": {"k": 4}}}, f"{steps}prompt_tuning+lora"]
    return ladder + [f"{steps}lora+{merge}" for merge in ("soup", "ties", "dare")]


def keep(document: dict[str, Any]) -> None:
    """Write one board as JSON lines."""
    suffix = "" if document["base"] == "embedded" else f"-{document['base']}"
    rows = [{k: v for k, v in row.items() if k not in LEFT_OUT} for row in document["board"]]
    about = ("task", "base", "metric", "n_test", "seeds", "test_openings", "seconds", "verdict")
    lines = [
        machine.line(),
        {"kind": "about", **{key: document[key] for key in about}},
        *({**row, "kind": "row", "technique_kind": row["kind"]} for row in rows),
    ]
    kept.write(f"board-{document['task']}{suffix}", lines)


if __name__ == "__main__":
    main()
