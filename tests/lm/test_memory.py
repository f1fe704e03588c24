"""What is free is the least that machine, control group and process leave."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from savile.lm import memory

LIMITED = """
import resource
import torch
from savile.lm import memory
room = 300_000_000
used = memory._status("VmSize")
resource.setrlimit(resource.RLIMIT_AS, (used + room, resource.RLIM_INFINITY))
assert memory.free_bytes("cpu") < 1.2 * room, memory.free_bytes("cpu")
try:
    torch.empty(1_000_000_000)
except (MemoryError, RuntimeError) as error:
    assert memory.ran_out(error), error
    print("ran out")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_limit_of_the_process_counts_and_its_error_is_recognized() -> None:
    command = [sys.executable, "-c", LIMITED]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "ran out\n", done.stderr


@pytest.mark.parametrize(
    ("groups", "folder", "names"),
    [
        ("0::/a/b\n", "a/b", ("memory.max", "memory.current", "inactive_file")),
        (
            "4:memory:/a/b\n0::/\n",
            "memory/a/b",
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ),
    ],
)
def test_the_limit_of_the_control_group_counts(
    groups: str,
    folder: str,
    names: tuple[str, str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, listing = tmp_path / "groups" / folder, tmp_path / "cgroup"
    own.mkdir(parents=True)
    listing.write_text(groups, encoding="utf-8")
    for name, text in ((names[0], "1000"), (names[1], "700"), ("memory.stat", f"{names[2]} 50\n")):
        (own / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(memory, "GROUP", listing)
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "groups")
    assert memory.free_bytes("cpu") == 350
    (own / names[0]).write_text("max", encoding="utf-8")
    assert (memory.free_bytes("cpu") or 1 << 60) > 350


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_freed_memory_is_no_memory_of_what_comes_next() -> None:
    start = memory.bytes_in_use("cpu")
    assert start is not None
    memory.reset_peak("cpu")
    blocks = [torch.ones(250_000) for _ in range(100)]
    del blocks
    peak, end = memory.peak_bytes("cpu"), memory.bytes_in_use("cpu")
    assert peak is not None
    assert end is not None
    assert peak > start + 80_000_000
    assert end < start + 50_000_000


@pytest.mark.parametrize(
    ("error", "ran_out"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_only_memory_that_ran_out_is_taken_for_it(error: Exception, ran_out: bool) -> None:
    assert memory.ran_out(error) is ran_out
