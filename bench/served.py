"""The embedded base through our own loading and through `transformers serve`: the same answers?

    python bench/served.py [--rows 200] [--case refund_arithmetic] [--no-result]

`transformers serve` is an independent server: its own chat rendering, its own generation. One board
holds both bases; greedy answers of every technique are compared row by row, and latency and cost
are those of the board. Results go to `bench/results/` as JSON lines.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import kept
import machine
import savile
from savile.ladder.folder import RunFolder, unit_id

LADDER = "[zero_shot, {few_shot: {k: 4}}, chain_of_thought]"
START_SECONDS = 300
SERVE = "from transformers.cli.transformers import main; main()"


@contextmanager
def serving(model: Path) -> Iterator[str]:
    """Serve a model on a free port while the block runs; yields the endpoint."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--device", "cpu"]
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE, "serve", str(model), *options],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(server, f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)


def _wait(server: subprocess.Popen[bytes], url: str) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if server.poll() is not None:
            sys.exit(f"transformers serve ended with {server.returncode}")
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - loopback
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
        else:
            return
    sys.exit("transformers serve did not start")


def compare(case: str, rows: int, folder: Path) -> dict[str, Any]:
    """Run one board with both bases and compare their answers."""
    model = Path(str(resources.files("savile") / "embedded" / "small"))
    from savile.spec import init

    task = init.copy_case(case, folder / "case")
    with serving(model) as endpoint:
        served = {"endpoint": endpoint, "model": str(model), "price": {"input": 0.1, "output": 0.4}}
        overrides = [
            "base=null",
            f"bases=[embedded, {json.dumps(served)}]",
            f"ladder={LADDER}",
            f"budget.test_rows={rows}",
            "prompt.labels=null",
            "compute.dtype=float32",
            "compute.device=cpu",
            "seeds=1",
        ]
        run = savile.run(task, folder / "run", overrides=overrides)
    board = {row["technique"]: row for row in run.board}
    pairs = [(name, f"{name.removesuffix(' on embedded')} on {model}") for name in board]
    return {
        "kind": "served",
        "case": case,
        "techniques": [
            _technique(run.folder, board[here], board[there])
            for here, there in pairs
            if there in board and here != there
        ],
    }


def _technique(folder: Path, here: dict[str, Any], there: dict[str, Any]) -> dict[str, Any]:
    units = [
        RunFolder(folder).read(f"measured/{unit_id(row['technique'], 0)}") for row in (here, there)
    ]
    ours, theirs = (unit.predictions for unit in units if unit is not None)
    both = list(zip(ours, theirs, strict=True))
    return {
        "technique": here["technique"].removesuffix(" on embedded"),
        "rows": len(both),
        "same_answers": sum(a.text == b.text for a, b in both),
        "same_prompt_tokens": sum(a.prompt_tokens == b.prompt_tokens for a, b in both),
        "scores": [here["score"], there["score"]],
        "latency_p50_seconds": [here["latency_p50_seconds"], there["latency_p50_seconds"]],
        "usd_per_1000": there["usd_per_1000"],
    }


def main() -> None:
    """Measure and write the result; fails when an answer differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--case", default="refund_arithmetic")
    parser.add_argument("--no-result", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        record = compare(given.case, given.rows, Path(folder))
    print(json.dumps(record, indent=1))
    if not given.no_result:
        kept.write(f"served-{given.case}", [machine.line(), record])
    if any(t["same_answers"] < t["rows"] for t in record["techniques"]):
        sys.exit("an answer differs")


if __name__ == "__main__":
    main()
