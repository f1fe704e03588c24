"""LoRA SFT on Banking77: real tokens a CPU second, Savile against TRL + PEFT.

    python bench/lora_sft.py [--full] [--case short|labels] [--data FOLDER]

First the equality gate (`gate.py`); if it fails, nothing is measured. Then the peer's own options
once each (`grid.py`), then blocks A B O O B A of the peer as shipped (A), the peer at its best (B)
and ours (O), each in a process that stays in memory. The ratio of a block is a ratio of CPU seconds
for the same rows. Raw results go to `bench/results/` as JSON lines.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grid as peers
import machine
from case import banking77
from worker import Worker

RESULTS = Path(__file__).resolve().parent / "results"
ROWS = {"short": 128, "labels": 32}
"""Rows of a timed pass of a full run; a quick run takes two batches."""
GATE_ROWS = 80
BATCH_SIZE = 16
RANK = 16
LEARNING_RATE = 1e-3

Record = dict[str, Any]


def main() -> None:
    """Measure and write the results of one or both cases."""
    options = arguments()
    pairs = banking77(options.data)
    cases = [options.case] if options.case else list(ROWS) if options.full else ["short"]
    RESULTS.mkdir(exist_ok=True)
    for kind in cases:
        name = f"{datetime.now(UTC).date()}-lora-sft-{kind}-{options.shape}.jsonl"
        records = []
        with tempfile.TemporaryDirectory() as folder:
            for record in bench(Path(folder), kind, pairs, options):
                records.append(record)
                print(json.dumps({k: v for k, v in record.items() if k != "curve"}), flush=True)
        lines = [json.dumps(record, ensure_ascii=False) for record in records]
        (RESULTS / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"written: bench/results/{name}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="both cases, the whole grid")
    parser.add_argument("--case", choices=list(ROWS), help="one case only")
    parser.add_argument("--blocks", type=int, help="default 3, with --full 5")
    parser.add_argument("--shape", default="5M", choices=["5M", "30M"])
    parser.add_argument("--data", type=Path, help="folder with Banking77's train.csv")
    parser.add_argument("--threads", type=int, default=1, help="threads of each side")
    return parser.parse_args()


def bench(
    folder: Path, kind: str, pairs: list[tuple[str, str]], options: argparse.Namespace
) -> Iterator[Record]:
    """Yield every record of one case; exits when the gate fails."""
    setup = {
        "kind": "setup",
        "case": kind,
        "shape": options.shape,
        "rows": ROWS[kind] if options.full else 2 * BATCH_SIZE,
        "gate_rows": GATE_ROWS,
        "batch_size": BATCH_SIZE,
        "learning_rate": LEARNING_RATE,
        "rank": RANK,
        "threads": options.threads,
        "blocks": options.blocks or (5 if options.full else 3),
    }
    yield machine.line()
    with (
        Worker("ours", folder, None, options.threads) as ours,
        Worker("peer", folder, None, options.threads) as plain,
        Worker("peer", folder, peers.KEEP_PAGES, options.threads) as keeping,
    ):
        yield setup | ours.ask(do="prepare", setup=setup, pairs=pairs)
        gate = plain.ask(do="gate")
        yield gate
        if not gate["passed"]:
            sys.exit("the two sides do not compute the same, so there is no figure")
        tried = []
        for name in peers.options(kind, full=options.full):
            worker = plain if peers.OPTIONS[name].environment is None else keeping
            tried.append({"kind": "grid", "option": name, **worker.ask(do="run", option=name)})
            yield tried[-1]
        best = max(tried, key=lambda record: record["tokens_per_cpu_second"])["option"]
        sides = {
            "shipped": (plain, peers.SHIPPED),
            "best": (plain if peers.OPTIONS[best].environment is None else keeping, best),
            "ours": (ours, ""),
        }
        passes = []
        for block in range(setup["blocks"]):
            for side in ("shipped", "best", "ours", "ours", "best", "shipped"):
                worker, option = sides[side]
                measured = worker.ask(do="run", option=option)
                passes.append({"kind": "pass", "block": block, "side": side, **measured})
                yield passes[-1]
    yield summary(passes, best)


def summary(passes: list[Record], best: str) -> Record:
    """Return rates and ratios: the median over blocks, with the smallest and the largest."""
    blocks = sorted({r["block"] for r in passes})
    rates = {
        side: [rate([r for r in passes if (r["block"], r["side"]) == (b, side)]) for b in blocks]
        for side in ("shipped", "best", "ours")
    }
    result: Record = {"kind": "summary", "best_option": best, "blocks": len(blocks)}
    for side, values in rates.items():
        result[f"{side}_tokens_per_cpu_second"] = round(statistics.median(values), 1)
    for side in ("shipped", "best"):
        ratios = [o / p for o, p in zip(rates["ours"], rates[side], strict=True)]
        result[f"ratio_to_{side}"] = [round(f(ratios), 2) for f in (statistics.median, min, max)]
    return result


def rate(passes: list[Record]) -> float:
    """Return real tokens a CPU second over some passes."""
    tokens: int = sum(r["tokens"] for r in passes)
    seconds: float = sum(r["cpu_seconds"] for r in passes)
    return tokens / seconds


if __name__ == "__main__":
    main()
