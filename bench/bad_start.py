"""Where a tuned technique ends when its search starts a hundred times too high or too low.

    python bench/bad_start.py --runs runs/bad-start                    # every delta, three seeds
    python bench/bad_start.py lora full --seeds 1 --budget 6000 --runs runs/bad-start

Every delta is run on a bundled case from its own learning rate and from 100 and 1/100 times it
(`budget.search_from`), searches and final runs inside the same share. A bad start is *found* when
its mean test score lies in the interval of the good start's row or above it, *flagged* when its row
says that it did not converge or its verdict that it learned nothing, else *missed*; one seed has an
interval without the scatter of seeds, so it misses more. Run folders are kept in `--runs`: the same
command with the same code goes on where it was stopped. The results go to
`bench/results/<date>-bad-start-<case>.jsonl`: a line for each run, and one for each technique.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import kept
import machine
from savile import registry

FACTORS = (1.0, 100.0, 0.01)
"""Where the search starts, as a multiple of the delta's own learning rate; the good start first."""
NOT_CONVERGED = "did not converge"
NOTHING = "Learned nothing"
"""How a line of the verdict about such techniques begins."""
NOTHING_WORKED = 6
"""Exit code of a run without a score, whose board is kept."""
KEPT = ("status", "reason", "score", "low", "high", "score_by_seed", "train_examples", "seconds")

Record = dict[str, Any]


def main() -> None:
    """Run and write the results."""
    options = arguments()
    with tempfile.TemporaryDirectory() as scratch:
        records = list(measured(options, options.runs or Path(scratch)))
    kept.write(f"bad-start-{options.case}", records)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = sorted(registry.parts("deltas"))
    parser.add_argument("deltas", nargs="*", default=known, help=f"of {', '.join(known)}")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=int, help="presentations of each run; default: the case's")
    parser.add_argument("--case", default="hard_routing", help="a bundled case")
    parser.add_argument("--runs", type=Path, help="keep run folders here (resumable)")
    return parser.parse_args()


def measured(options: argparse.Namespace, runs: Path) -> Iterator[Record]:
    """Yield every record."""
    yield machine.line()
    settings = ("case", "seeds", "budget")
    yield {"kind": "setup", **{name: getattr(options, name) for name in settings}}
    for delta in options.deltas:
        good, *bad = (started(delta, factor, options, runs) for factor in FACTORS)
        yield from (good, *bad)
        found = {f"{one['factor']:g}": ending(one, good) for one in bad}
        record = {"kind": "technique", "technique": delta, "endings": found}
        print(json.dumps(record), flush=True)
        yield record


def started(delta: str, factor: float, options: argparse.Namespace, runs: Path) -> Record:
    """Run one delta from one start."""
    path = resources.files("savile") / "embedded" / "cases" / options.case / "task.yaml"
    wanted = {"ladder": f"[{delta}]", "seeds": options.seeds, "budget.search_from": factor}
    if options.budget is not None:
        wanted["budget.train_examples"] = options.budget
    sets = [word for key, value in wanted.items() for word in ("--set", f"{key}={value}")]
    out = runs / f"{options.case}-{delta}-{factor:g}-{options.seeds}-{options.budget or 'own'}"
    command = [sys.executable, "-m", "savile", "run", str(path), "--out", str(out), *sets]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode not in (0, NOTHING_WORKED):
        raise SystemExit(f"{delta} from x{factor:g}: exit code {done.returncode}")
    board = json.loads((out / "board.json").read_text(encoding="utf-8"))
    row = next(row for row in board["board"] if row["technique"] == delta)
    lines = board["verdict"]["text"].split("\n")
    return {
        "kind": "start",
        "technique": delta,
        "factor": factor,
        **{key: row[key] for key in KEPT},
        "learning_rate": row["settings"].get("learning_rate"),
        "learning_rates_tried": row["settings"].get("learning_rates_tried"),
        "learned_nothing": any(line.startswith(NOTHING) and delta in line for line in lines),
    }


def ending(bad: Record, good: Record) -> str:
    """Return what became of a bad start beside the good one."""
    within = bad["score"] is not None and (good["score"] is None or bad["score"] >= good["low"])
    if within:
        return "found"
    flagged = NOT_CONVERGED in (bad["reason"] or "") or bad["learned_nothing"]
    return "flagged" if flagged or bad["score"] is None else "missed"


if __name__ == "__main__":
    main()
