"""What a figure was measured on, and how: the machine's line, the clock, and a matmul probe."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

PACKAGES = ("savile", "torch", "transformers", "trl", "peft", "accelerate", "tokenizers", "lm_eval")
HERE = Path(__file__).resolve().parent
PROBE_SIZE = 1024
"""Rows of the probe's square matrices: 2.1 GFLOP a product, some 10 ms on one core."""


class Clock(NamedTuple):
    """CPU seconds of this process (all its threads) and wall seconds."""

    cpu: float
    wall: float

    @staticmethod
    def now() -> Clock:
        """Return the clock's reading."""
        return Clock(time.process_time(), time.perf_counter())

    def since(self, start: Clock) -> Clock:
        """Return what has passed since `start`."""
        return Clock(self.cpu - start.cpu, self.wall - start.wall)


def line() -> dict[str, Any]:
    """Return the machine's line: no host name, no path."""
    load = os.getloadavg()[0]
    cores = os.cpu_count() or 1
    return {
        "kind": "machine",
        "cpu": _cpu_model(),
        "cores": cores,
        "flags": _flags(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "commit": _commit(),
        "versions": {name: _version(name) for name in PACKAGES},
        "load_average_before": round(load, 2),
        "note": ("cores were shared with other jobs" if load > 0.5 else "nothing else was running"),
    }


def environment(threads: int) -> dict[str, str]:
    """Return the environment of a measured process: quiet, offline, with so many threads."""
    settings = {
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TRL_EXPERIMENTAL_SILENCE": "1",
    }
    return {**os.environ, **settings}


def probe() -> dict[str, float]:
    """Return GFLOP per CPU second of a square product in fp32 and bf16, best of 3."""
    import torch

    rates: dict[str, float] = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a = torch.randn(PROBE_SIZE, PROBE_SIZE).to(dtype)
        seconds = []
        for _ in range(4):
            start = Clock.now()
            a @ a
            seconds.append(Clock.now().since(start).cpu)
        rates[f"probe_{name}_gflop_per_cpu_second"] = round(2e-9 * PROBE_SIZE**3 / min(seconds[1:]))
    return rates


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for text in info.read_text(encoding="utf-8").splitlines():
            if text.startswith("model name"):
                return text.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def _flags() -> list[str]:
    info = Path("/proc/cpuinfo")
    words = info.read_text(encoding="utf-8").split() if info.is_file() else []
    return [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in words]


def _commit() -> str:
    """Return the checkout's commit, with a + where files differ from it; empty outside git."""
    told = ("git", "describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*")
    done = subprocess.run(told, cwd=HERE, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
