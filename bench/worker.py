"""A process that holds one side in memory and runs a pass over the case whenever it is told to.

Usage: worker.py ours|peer|gate CASE.json OPTION. Writes one JSON line on stdout when it is warm and
one for each line it reads; everything the libraries print goes to stderr.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

BENCH = Path(__file__).resolve().parent


@dataclass
class Worker:
    """The parent's end: starts the process, asks for passes, ends it."""

    side: str
    case: Path
    option: str = ""
    environment: dict[str, str] | None = None
    threads: int = 1
    process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Start the process and wait until everything is built and warm."""
        settings = {
            "OMP_NUM_THREADS": str(self.threads),
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_VERBOSITY": "error",
            "TRL_EXPERIMENTAL_SILENCE": "1",
        }
        self.errors = (self.case.parent / f"{self.side}.log").open("w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, str(BENCH / "worker.py"), self.side, str(self.case), self.option],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, **settings, **(self.environment or {})},
        )
        self.first = self._read()
        return self

    def run(self) -> dict[str, Any]:
        """Let the process do one pass and return what it measured."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return self._read()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process."""
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
            self.process.wait(timeout=60)
        self.errors.close()

    def _read(self) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            sys.exit(
                f"the {self.side} process ({self.option}) ended:\n{self.errors.read()[-3000:]}"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer


def main(side: str, case_path: str, option: str) -> None:
    """Be the process."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import torch

    from case import Case
    from machine import peak_bytes, probe

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    case = Case.load(Path(case_path))
    if side == "gate":
        from gate import gate

        print(json.dumps(gate(case)), file=answers, flush=True)
        return
    runner = _runner(side, case, option)
    runner.run()
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for _ in sys.stdin:
        rates = probe()
        clock, _losses = runner.run()
        answer = {
            "cpu_seconds": round(clock.cpu, 4),
            "wall_seconds": round(clock.wall, 4),
            "tokens": case.tokens,
            "tokens_per_cpu_second": round(case.tokens / clock.cpu, 1),
            "peak_bytes": peak_bytes(),
            **rates,
        }
        print(json.dumps(answer), file=answers, flush=True)


def _runner(side: str, case: Any, option: str) -> Any:
    if side == "peer":
        from grid import OPTIONS
        from peer import Peer

        return Peer(case, OPTIONS[option])
    from ours import Ours

    return Ours(case)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3])
