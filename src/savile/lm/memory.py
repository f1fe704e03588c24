"""Memory of the process and its device: what is in use, what is free, the highest use.

    free = min(available on the machine, limits of the control group and of the process)

Memory that was freed is given back to the system before anything is read: what an allocator keeps
of one technique is no memory of the next. Where nobody says (no `/proc`), there is None, and
nothing is refused.
"""

from __future__ import annotations

import contextlib
import ctypes
import resource
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Final, TypeVar

import torch

T = TypeVar("T")
OUT_OF_MEMORY: Final = (
    *("out of memory", "not enough memory"),
    *("can't allocate memory", "cannot allocate memory"),
)
"""What errors say that have no type of their own: torch's CPU allocator, oneDNN, the system."""
GROUP: Final = Path("/proc/self/cgroup")
GROUPS: Final = Path("/sys/fs/cgroup")
UNLIMITED: Final = 1 << 60
"""Limits from here on are none."""
V1: Final = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2: Final = ("memory.max", "memory.current", "inactive_file")
"""What the two versions of control groups call limit, use, and pages they could drop."""


def free_bytes(device: torch.device | str) -> int | None:
    """Return the bytes that can still be allocated on a device; None where nobody says."""
    device = torch.device(device)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + kept)
    trim()
    limits = [_of_machine(), _of_group(), *_of_process()]
    return min((limit for limit in limits if limit is not None), default=None)


def bytes_in_use(device: torch.device | str) -> int | None:
    """Return the bytes that the process (CPU) or the device (CUDA) uses now."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    trim()
    return _status("VmRSS")


def peak_bytes(device: torch.device | str) -> int | None:
    """Return the highest use since `reset_peak`."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return _status("VmHWM")


def reset_peak(device: torch.device | str) -> None:
    """Let the peak start at what is in use now; what was freed before is given back first, so that
    one technique's memory does not count as that of the next."""
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    trim()
    with contextlib.suppress(OSError):  # not Linux, or not permitted: the peak is the process's
        Path("/proc/self/clear_refs").write_text("5")


def trim() -> None:
    """Give back to the system what the allocator keeps of freed memory, where it is glibc's."""
    if (give_back := _malloc_trim()) is not None:
        give_back(0)


def tried(work: Callable[[], T]) -> T | None:
    """Return what `work` gives, which is not None; None where memory ran out. By then everything
    that the error held is free, and given back to the system."""
    try:
        return work()
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
    trim()
    return None


def ran_out(error: BaseException) -> bool:
    """Return whether an error says that there was no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in said for words in OUT_OF_MEMORY)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    with contextlib.suppress(OSError, AttributeError):  # another C library
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
        return found
    return None


def _status(field: str) -> int | None:
    return _kilobytes(Path("/proc/self/status"), field)


def _of_machine() -> int | None:
    return _kilobytes(Path("/proc/meminfo"), "MemAvailable")


def _kilobytes(file: Path, field: str) -> int | None:
    with contextlib.suppress(OSError):
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return None


def _of_group() -> int | None:
    """Return what the control group leaves (versions 1 and 2); pages of files that it could drop
    count as free."""
    with contextlib.suppress(OSError, ValueError):
        for line in GROUP.read_text(encoding="utf-8").splitlines():
            number, kinds, path = line.split(":", 2)
            if kinds == "memory":
                folder, names = GROUPS / "memory" / path.lstrip("/"), V1
            elif number == "0" and not kinds:
                folder, names = GROUPS / path.lstrip("/"), V2
            else:
                continue
            found = _left(folder, names) or _left(GROUPS / kinds, names)
            if found is not None:
                return found
    return None


def _left(folder: Path, names: tuple[str, str, str]) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        limit = int((folder / names[0]).read_text(encoding="utf-8"))
        if limit >= UNLIMITED:
            return None
        used = int((folder / names[1]).read_text(encoding="utf-8"))
        stat = (folder / "memory.stat").read_text(encoding="utf-8").split()
        pages = dict(zip(stat[::2], stat[1::2], strict=True))
        return max(0, limit - used + int(pages.get(names[2], 0)))
    return None


def _of_process() -> Iterator[int]:
    """Yield what limits on the process's address space leave."""
    used = _status("VmSize")
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if used is not None and soft != resource.RLIM_INFINITY:
        yield max(0, soft - used)
