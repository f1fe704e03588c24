"""LoRA SFT on Banking77: real tokens a CPU second, Savile against TRL + PEFT.

    python bench/lora_sft.py [--full] [--case short|labels] [--data FOLDER]

First the equality gate (`gate.py`); if it fails, nothing is measured. Then the peer's own options
once each (`grid.py`), then blocks A B O O B A of the peer as shipped (A), the peer at its best (B)
and ours (O), each in a process of its own that stays in memory. The ratio of a block is a ratio of
CPU seconds for the same rows. Raw results go to `bench/results/` as JSON lines.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grid as peers
import machine
from case import Case, banking77, instruction, sample, write_model
from worker import Worker

RESULTS = Path(__file__).resolve().parent / "results"
ROWS = {"short": 128, "labels": 32}
"""Rows of a timed pass: some ten seconds of the peer as shipped, on one core."""
GATE_ROWS = 80
BATCH_SIZE = 16
RANK = 16
LEARNING_RATE = 1e-3

Record = dict[str, Any]


def main() -> None:
    """Measure and write the results of one or both cases."""
    options = arguments()
    pairs = banking77(options.data)
    for kind in (
        [options.case] if options.case else (["short", "labels"] if options.full else ["short"])
    ):
        with tempfile.TemporaryDirectory() as folder:
            records = bench(Path(folder), kind, pairs, options)
        RESULTS.mkdir(exist_ok=True)
        name = f"{datetime.now(UTC).date()}-lora-sft-{kind}-{options.shape}.jsonl"
        lines = [json.dumps(record, ensure_ascii=False) for record in records]
        (RESULTS / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"written: bench/results/{name}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="both cases, the whole grid, 5 blocks")
    parser.add_argument("--case", choices=list(ROWS), help="one case only")
    parser.add_argument("--shape", default="5M", choices=["5M", "30M"])
    parser.add_argument("--data", type=Path, help="folder with Banking77's train.csv")
    parser.add_argument("--threads", type=int, default=1, help="threads of each side")
    return parser.parse_args()


def bench(
    folder: Path, kind: str, pairs: list[tuple[str, str]], options: argparse.Namespace
) -> list[Record]:
    """Return every record of one case; exits when the gate fails."""
    setup = {
        "kind": "setup",
        "case": kind,
        "shape": options.shape,
        "rows": ROWS[kind] if options.full else max(ROWS[kind] // 2, 2 * BATCH_SIZE),
        "batch_size": BATCH_SIZE,
        "rank": RANK,
        "threads": options.threads,
        "blocks": 5 if options.full else 3,
    }
    records = [machine.line(), setup]
    case = prepare(folder, kind, pairs, setup)
    print(f"case {kind}: gate ...", flush=True)
    with Worker("gate", folder / "gate.json") as process:
        records.append(process.first)
    if not process.first["passed"]:
        sys.exit(f"the two sides differ, so no figure: {json.dumps(process.first)}")
    records += try_options(case, peers.options(kind, full=options.full), options.threads)
    tried = [r for r in records if r["kind"] == "grid"]
    best = max(tried, key=lambda r: r["tokens_per_cpu_second"])["option"]
    records += blocks(case, best, setup["blocks"], options.threads)
    records.append(summary(records, best))
    print(json.dumps(records[-1], indent=1))
    return records


def prepare(folder: Path, kind: str, pairs: list[tuple[str, str]], setup: Record) -> Path:
    """Write model and cases; return the timed case's path."""
    from ours import Ours, row
    from savile.lm.load import load

    model = folder / "model"
    write_model(model, setup["shape"], pairs)
    lm = load(str(model), folder=folder, device="cpu", dtype="float32")
    words = instruction(kind, pairs)
    chosen = sample(pairs, max(setup["rows"], GATE_ROWS), seed=0)
    case = Case(
        model=str(model),
        instruction=words,
        rows=[row(lm, words, text, label) for text, label in chosen],
        batch_size=setup["batch_size"],
        learning_rate=LEARNING_RATE,
        rank=setup["rank"],
    )
    replace(case, rows=case.rows[:GATE_ROWS]).save(folder / "gate.json")
    timed = replace(case, rows=case.rows[: setup["rows"]])
    replace(timed, peer_order=Ours(timed).order()).save(folder / "case.json")
    setup["tokens"] = timed.tokens
    return folder / "case.json"


def try_options(case: Path, names: list[str], threads: int) -> list[Record]:
    """Run the peer once with each option."""
    records = []
    for name in names:
        with Worker("peer", case, name, peers.OPTIONS[name].environment, threads) as worker:
            records.append({"kind": "grid", "option": name, **worker.run()})
        print(f"  peer, {name}: {records[-1]['tokens_per_cpu_second']:,.0f} tokens/s", flush=True)
    return records


def blocks(case: Path, best: str, count: int, threads: int) -> list[Record]:
    """Run A B O O B A again and again; return one record for each pass."""
    records = []
    with ExitStack() as stack:
        workers = {
            "shipped": Worker("peer", case, peers.SHIPPED, None, threads),
            "best": Worker("peer", case, best, peers.OPTIONS[best].environment, threads),
            "ours": Worker("ours", case, "", None, threads),
        }
        for worker in workers.values():
            stack.enter_context(worker)
        for block in range(count):
            for side in ("shipped", "best", "ours", "ours", "best", "shipped"):
                records.append(
                    {"kind": "pass", "block": block, "side": side, **workers[side].run()}
                )
            print(f"  block {block + 1} of {count}", flush=True)
    return records


def summary(records: list[Record], best: str) -> Record:
    """Return rates and ratios: the median over blocks, with the smallest and the largest."""
    passes = [r for r in records if r["kind"] == "pass"]
    count = 1 + max(r["block"] for r in passes)
    rates = {
        side: [
            sum(r["tokens"] for r in passes if (r["block"], r["side"]) == (b, side))
            / sum(r["cpu_seconds"] for r in passes if (r["block"], r["side"]) == (b, side))
            for b in range(count)
        ]
        for side in ("shipped", "best", "ours")
    }
    result: Record = {"kind": "summary", "best_option": best, "blocks": count}
    for side, values in rates.items():
        result[f"{side}_tokens_per_cpu_second"] = round(statistics.median(values), 1)
        peak = max(r["peak_bytes"] for r in passes if r["side"] == side)
        result[f"{side}_peak_bytes"] = peak
    for side in ("shipped", "best"):
        ratios = [o / p for o, p in zip(rates["ours"], rates[side], strict=True)]
        result[f"ratio_to_{side}"] = [round(f(ratios), 2) for f in (statistics.median, min, max)]
    return result


if __name__ == "__main__":
    main()
