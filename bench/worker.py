"""A process that holds one side in memory and runs passes over the case when it is told to.

Usage: worker.py ours|peer FOLDER. Each line on stdin is a JSON request, each line on stdout its
answer; everything the libraries print goes to a log in FOLDER. Importing the libraries costs more
than a pass, so one process serves every option that needs the same environment.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import machine

BENCH = Path(__file__).resolve().parent
NUMBERS = itertools.count(1)
"""Of the processes, for their logs."""


class Worker:
    """The parent's end: starts the process, passes requests on, ends it."""

    def __init__(
        self, side: str, folder: Path, environment: dict[str, str] | None = None, threads: int = 1
    ) -> None:
        """Start the process; it imports nothing heavy before the first request.

        Args:
            side: `ours` or `peer`.
            folder: where the case lies.
            environment: what it has beyond this process's environment.
            threads: of its tensor operations.
        """
        self.log = folder / f"{next(NUMBERS)}-{side}.log"
        self.errors = self.log.open("w", encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, str(BENCH / "worker.py"), side, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**machine.environment(threads), **(environment or {})},
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and return its answer; exits with the log when the process has died."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            self.errors.flush()
            tail = self.log.read_text(encoding="utf-8")[-3000:]
            sys.exit(f"the process that was asked for {request} ended:\n{tail}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=600)
        self.errors.close()


class Served:
    """The child's end."""

    def __init__(self, side: str, folder: Path) -> None:
        """Remember what to serve; nothing is loaded yet."""
        self.side, self.folder = side, folder
        self.option = ""
        self.runner: Any = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a request asks for."""
        from case import Case

        if request["do"] == "prepare":
            from ours import prepare

            return prepare(self.folder, request)
        if request["do"] == "gate":
            from gate import gate
            from gate_rollouts import gate as gate_rollouts

            case = Case.load(self.folder / "gate.json")
            return gate_rollouts(case) if case.written else gate(case)
        return self.timed(Case.load(self.folder / "pass.json"), request["option"])

    def timed(self, case: Any, option: str) -> dict[str, Any]:
        """Return what one pass took; the first pass of an option is preceded by a step to warm up.

        One option at a time is kept in memory.
        """
        from machine import probe

        if self.runner is None or option != self.option:
            self.option, self.runner = option, None
            self.runner = self.built(case, option)
            self.runner.run(1)
        rates = probe()
        clock, _losses = self.runner.run()
        return {
            "cpu_seconds": round(clock.cpu, 4),
            "wall_seconds": round(clock.wall, 4),
            "tokens": self.runner.tokens,
            "tokens_per_cpu_second": round(self.runner.tokens / clock.cpu, 1),
            **rates,
        }

    def built(self, case: Any, option: str) -> Any:
        """Build one side; importing it here keeps the two libraries' processes apart."""
        if self.side == "ours":
            from ours import Ours

            return Ours(case)
        from grid import OPTIONS
        from peer import Peer

        return Peer(case, OPTIONS[option])


def main(side: str, folder: Path) -> None:
    """Answer requests until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    served = Served(side, folder)
    for line in sys.stdin:
        print(json.dumps(served.answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
